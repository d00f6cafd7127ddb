//! Watches and caches, feeds the engine, applies what it decides.
