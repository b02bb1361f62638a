"""Human judgement: a page of blinded examples for raters, and what their answers say."""
