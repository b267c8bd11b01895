"""The poster's table, as data: test accuracy in %, mean and standard deviation over 3 seeds.

Source: the poster "Data Augmentations in Deep Weight Spaces".
"""

Figure = tuple[float, float]

# dataset, model, views of each column
COLUMNS = (
    ("ModelNet40", 1),
    ("ModelNet40", 10),
    ("FMNIST", 1),
    ("FMNIST", 10),
)
_ROWS: dict[tuple[str, str], tuple[Figure | None, ...]] = {
    ("none", "DWS"): ((16.17, 0.25), (30.25, 0.95), (68.30, 0.62), (76.01, 1.20)),
    ("none", "GNN"): ((8.82, 1.08), (34.51, 1.24), (68.84, 0.41), (79.58, 3.01)),
    ("translate", "DWS"): ((18.18, 0.97), (31.17, 0.02), (67.90, 0.24), (77.61, 0.36)),
    ("rotation", "DWS"): (None, None, (68.55, 0.28), (77.04, 0.47)),
    ("scale", "DWS"): ((16.41, 0.57), (30.54, 0.72), (67.99, 0.14), (75.77, 1.09)),
    ("Gaussian noise", "DWS"): ((14.10, 0.71), (25.31, 1.78), (68.53, 0.09), (77.60, 0.13)),
    ("SIREN bias", "DWS"): ((4.69, 0.10), (4.90, 0.01), (58.20, 0.01), (62.21, 0.55)),
    ("SIREN negation", "DWS"): ((20.14, 0.98), (32.31, 0.70), (71.40, 0.29), (77.71, 1.38)),
    ("dropout", "DWS"): ((11.43, 2.44), (14.71, 1.14), (68.48, 0.14), (75.57, 1.91)),
    ("quantile dropout", "DWS"): ((15.13, 2.45), (29.88, 0.62), (68.72, 0.27), (76.22, 0.72)),
    ("translate", "GNN"): ((8.17, 0.81), (34.93, 1.31), (70.17, 1.26), (83.83, 0.25)),
    ("rotation", "GNN"): (None, None, (69.35, 2.18), (83.72, 1.14)),
    ("scale", "GNN"): ((8.58, 0.65), (34.70, 5.19), (68.96, 1.46), (83.67, 0.19)),
    ("Gaussian noise", "GNN"): ((9.06, 0.27), (32.82, 1.14), (77.55, 0.33), (81.28, 0.50)),
    ("SIREN bias", "GNN"): ((11.63, 2.48), (34.32, 1.57), (68.09, 0.49), (77.20, 1.03)),
    ("SIREN negation", "GNN"): ((11.41, 3.22), (37.93, 2.26), (72.74, 4.29), (82.36, 3.66)),
    ("dropout", "GNN"): ((8.10, 0.43), (18.04, 1.24), (68.55, 1.21), (79.72, 1.35)),
    ("quantile dropout", "GNN"): ((8.12, 0.85), (34.36, 1.14), (69.96, 2.08), (83.78, 0.76)),
    ("MixUp", "DWS"): ((26.96, 0.91), (31.92, 0.37), (74.36, 1.17), (78.58, 0.20)),
    ("MixUp + random perm.", "DWS"): ((26.62, 0.18), (33.55, 1.40), (73.89, 0.89), (78.04, 1.02)),
    ("alignment + MixUp", "DWS"): ((27.40, 0.97), (33.33, 0.43), (75.67, 0.36), (79.41, 0.56)),
    ("MixUp", "GNN"): ((20.45, 3.82), (42.25, 3.83), (80.18, 0.59), (82.20, 0.52)),
    ("MixUp + random perm.", "GNN"): ((24.46, 2.92), (41.67, 4.55), (78.45, 2.29), (82.24, 0.68)),
    ("alignment + MixUp", "GNN"): ((26.88, 1.75), (42.83, 4.18), (78.80, 2.12), (82.94, 0.31)),
}


def poster_figure(augmentation: str, model: str, dataset: str, views: int) -> Figure | None:
    """Give the poster's mean and standard deviation in %, None where it has none.

    Example:
        >>> poster_figure("MixUp", "GNN", "FMNIST", 1)
        (80.18, 0.59)
    """
    row = _ROWS.get((augmentation, model))
    if row is None or (dataset, views) not in COLUMNS:
        return None
    return row[COLUMNS.index((dataset, views))]
