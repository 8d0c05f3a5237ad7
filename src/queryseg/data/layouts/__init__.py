"""One file per data set: where its files lie as downloaded, and what the values of its labels mean."""
