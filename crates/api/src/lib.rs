//! Every kind: types, defaulting, validation, conversion, CRD schemas. Pure.
