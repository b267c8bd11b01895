"""Sweeps: the options of ``fit`` that give the best validation score, searched by Optuna."""
