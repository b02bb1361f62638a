"""The training stages: trained parameters, data, loss and export of each."""
