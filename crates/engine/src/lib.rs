//! Every decision: substitution, DAG, results, pod building, the run state machines. Pure.
