//! apiserver, node and built-in controllers as one local cluster.
