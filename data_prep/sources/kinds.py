"""What each kind of SOURCE is, in words; apart from the table of sources, so that `--help` imports nothing heavy."""

PICTURES = "JPEG, PNG, BMP, TIFF or WebP"
MEDMNIST_SETS = (
    "pathmnist, dermamnist, octmnist, pneumoniamnist, retinamnist, "
    "breastmnist, bloodmnist, tissuemnist, organamnist, organcmnist, organsmnist"
)
KINDS = {
    "demo": "demo, a built-in set of about 1,500 drawn blood cells",
    "medmnist": f"the name of a MedMNIST set, downloaded from Zenodo ({MEDMNIST_SETS})",
    "tfds": "tfds:NAME, a set of TensorFlow Datasets with `image` and `label`",
    "folder": f"a folder with one subfolder of {PICTURES} pictures per class, "
    "or with train/ and test/ folders that hold such subfolders",
    "table": "a .csv, .tsv or .jsonl table with the columns path and label",
    "npz": "an .npz file with `images` (n, h, w, 3), or (n, h, w) for grey images, and `labels`, numbers or names (n,) "
    "or one-hot (n, classes); or with the keys of MedMNIST (`train_images`, `train_labels`, `val_images`, ...)",
}
"""Kind of source -> description for help and errors."""
