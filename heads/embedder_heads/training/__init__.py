"""From a labelled file to a head; the only place here that uses torch and scikit-learn."""
