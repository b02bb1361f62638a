"""Human judgement: a page of blinded examples for raters, and the analysis of their answers."""
