"""One experiment over folds, seeds and variants: planning its runs, running them, and summarising the results."""
