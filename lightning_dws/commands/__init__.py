"""The commands about INRs, a file each."""
