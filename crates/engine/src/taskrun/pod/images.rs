//! Commands of steps that name none: those of their images, for every platform (T-257 to T-263).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, LocalObjectReference};

use super::BuildError;
use crate::decision::{Found, ImageCommand, ImageRef, Inquiry, Known, Query};
use crate::taskrun::termination::go_json;

/// Looks up what the images of command-less steps run; false while not everything is known.
pub(crate) fn resolve(
    steps: &mut [Container],
    namespace: &str,
    account: &str,
    pull_secrets: &[LocalObjectReference],
    inquiry: &mut Inquiry<'_>,
) -> Result<bool, BuildError> {
    let mut complete = true;
    // One reference is looked up once, with the arguments and the policy of the first step that has it (T-262).
    let mut first: BTreeMap<String, (bool, String)> = BTreeMap::new();
    for step in steps {
        if step.command.as_ref().is_some_and(|c| !c.is_empty()) {
            continue;
        }
        let image = step.image.clone().unwrap_or_default();
        let has_args = step.args.as_ref().is_some_and(|a| !a.is_empty());
        let pull_policy = step.image_pull_policy.clone().unwrap_or_default();
        let first = first.entry(image.clone());
        let (has_args, pull_policy) = first.or_insert((has_args, pull_policy)).clone();
        let query = Query::ImageConfig(ImageRef {
            image,
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            pull_secrets: pull_secrets.iter().map(|s| s.name.clone()).collect(),
            pull_policy,
        });
        let found = match inquiry.ask(query) {
            Known::Found(Found::Image(image)) => image,
            Known::Missing(message) => return Err(BuildError(message.to_owned())),
            Known::Failed(failure) => return Err(BuildError(failure.message.clone())),
            _ => {
                complete = false;
                continue;
            }
        };
        let commands: BTreeMap<&str, Vec<String>> = found
            .platforms
            .iter()
            .map(|(platform, image)| (platform.as_str(), command(image, has_args)))
            .collect();
        let commands = serde_json::to_string(&commands).map_err(|e| BuildError(e.to_string()))?;
        step.image = Some(found.pinned.clone());
        step.env.get_or_insert_default().push(EnvVar {
            name: "TEKTON_PLATFORM_COMMANDS".into(),
            value: Some(go_json(&commands)),
            value_from: None,
        });
    }
    Ok(complete)
}

/// T-259
fn command(image: &ImageCommand, has_args: bool) -> Vec<String> {
    if image.entrypoint.is_empty() {
        return image.cmd.clone();
    }
    let cmd = if has_args { &[] } else { image.cmd.as_slice() };
    image.entrypoint.iter().chain(cmd).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_entrypoint_and_cmd_unless_there_are_args() {
        // T-259
        let text = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        for (entrypoint, cmd, has_args, expected) in [
            (&["e"][..], &["c"][..], false, &["e", "c"][..]),
            (&["e"], &["c"], true, &["e"]),
            (&[], &["c"], true, &["c"]),
            (&[], &["c"], false, &["c"]),
        ] {
            let image = ImageCommand {
                entrypoint: text(entrypoint),
                cmd: text(cmd),
            };
            assert_eq!(command(&image, has_args), expected);
        }
    }
}
