"""One experiment over folds, seeds and variants: which runs that takes, their work, and the table of all."""
