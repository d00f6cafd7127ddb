//! `tektite crds`: the CustomResourceDefinitions, to be applied to any cluster.

use crate::arguments::{Crds, Format};
use crate::exit::{Exit, Outcome};
use crate::objects;
use crate::terminal::print;

/// Prints them, as documents in YAML or as a list in JSON.
pub fn run(arguments: &Crds) -> Outcome {
    let definitions = tektite_api::crd::definitions();
    let text = match arguments.output {
        Format::Json => objects::print_list(definitions, Format::Json),
        Format::Yaml => {
            let documents = definitions
                .iter()
                .map(|definition| format!("---\n{}", objects::print_one(definition, Format::Yaml)));
            documents.collect()
        }
    };
    print(&text);
    Ok(Exit::Success)
}
