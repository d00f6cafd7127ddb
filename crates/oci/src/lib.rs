//! Images: content store, registry client and server, layers.
