"""Data sets and `tf.data` pipelines; a file per data set."""
