//! The task cache: a task that has succeeded before with the same inputs need not run again. Off unless its Task says that
//! its outcome follows from what it declares.

use std::collections::BTreeMap;

use serde_json::json;
use tektite_api::v1::{Param, PipelineTask, TaskSpec};

use super::children::given_for;
use super::facts::Facts;
use super::stop::Stop;
use super::task::{Adopted, Child, Kind};
use super::work::Work;
use crate::annotations;
use crate::cache::{Contents, Key};
use crate::decision::{Event, Found, ImageRef, Known, Query};
use crate::matrix;
use crate::substitution::Replacements;

/// The local node's own image, which has no digest.
const HOST: &str = "host";

/// What a Task says about caching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caching {
    wanted: bool,
    inputs: String,
    workspaces: String,
}

/// By what an earlier TaskRun is known that did the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CacheKey {
    /// All is known.
    Whole(Key),
    /// All but what is in the workspaces, which the TaskRun's pod is to tell.
    Basis {
        key: Key,
        /// What of the workspaces, as a list.
        contents: String,
    },
}

impl Caching {
    pub(super) fn of(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let given = |key: &str| annotations.and_then(|all| all.get(key));
        let text = |key: &str| given(key).cloned().unwrap_or_default();
        Self {
            wanted: given(annotations::CACHE).is_some_and(|it| it == "true"),
            inputs: text(annotations::CACHE_INPUTS),
            workspaces: text(annotations::CACHE_WORKSPACES),
        }
    }
}

/// Reads what is declared of the workspaces of `spec`.
fn declared_contents(text: &str, spec: &TaskSpec) -> Result<Vec<Contents>, String> {
    let contents = Contents::parse(text)
        .map_err(|error| format!("annotation {}: {error}", annotations::CACHE_WORKSPACES))?;
    for item in &contents {
        if !spec.workspaces.iter().any(|it| it.name == item.workspace) {
            return Err(format!(
                "annotation {}: the task declares no workspace {:?}",
                annotations::CACHE_WORKSPACES,
                item.workspace
            ));
        }
    }
    Ok(contents)
}

impl Work<'_> {
    /// Lets an earlier TaskRun that did the same stand in for the task at `at`, whose turn it is; says whether one does.
    pub(super) fn restore(&mut self, facts: &mut Facts, at: usize) -> Result<bool, Stop> {
        let Some(key) = self.cache_key(facts, at)? else {
            return Ok(false);
        };
        let CacheKey::Whole(whole) = &key else {
            facts.state[at].cache_key = Some(key);
            return Ok(false);
        };
        let query = Query::Cached {
            namespace: self.namespace().to_owned(),
            key: whole.0.clone(),
        };
        let earlier = match self.inquiry.ask(query) {
            Known::Unasked => return Err(Stop::Ask),
            Known::Found(Found::TaskRun(run)) => Some(run),
            _ => None,
        };
        let task = &mut facts.state[at];
        let Some(run) = earlier.filter(|run| whole.is_met_by(run)) else {
            task.cache_key = Some(key);
            return Ok(false);
        };
        task.names = vec![run.metadata.name.clone().unwrap_or_default()];
        task.children = vec![Child::Task(run.clone())];
        task.adopted = Some(Adopted::Cached);
        Ok(true)
    }

    /// What the outcome of the task at `at` follows from, hashed; nothing if it may not be cached.
    fn cache_key(&mut self, facts: &Facts, at: usize) -> Result<Option<CacheKey>, Stop> {
        let resolved = &facts.state[at];
        let caching = resolved.caching();
        let fresh = resolved.kind == Kind::Task
            && resolved.children.is_empty()
            && matrix::of(&resolved.task).is_none();
        let Some(spec) = resolved.task_spec().filter(|_| caching.wanted && fresh) else {
            return Ok(None);
        };
        let values = Replacements::of_params(&spec.params, &resolved.task.params);
        let contents = values.text(&caching.workspaces);
        let declared = match declared_contents(&contents, spec) {
            Ok(declared) => declared,
            Err(error) => {
                let task = &resolved.task.name;
                let text = format!("pipeline task {task:?} is not cached: {error}");
                self.events.push(Event::warning("InvalidCache", text));
                return Ok(None);
            }
        };
        let bound = !resolved.task.workspaces.is_empty();
        // Files that nothing is declared about may be others; a StepAction's definition is not known here.
        if (bound && caching.inputs.is_empty() && declared.is_empty())
            || spec.steps.iter().any(|it| it.ref_.is_some())
        {
            return Ok(None);
        }
        let Some(images) = self.digests(spec, &values, &resolved.task)? else {
            return Ok(None);
        };
        let mut params: Vec<&Param> = resolved.task.params.iter().collect();
        params.sort_by(|a, b| a.name.cmp(&b.name));
        let inputs = json!({
            "spec": spec,
            "params": params,
            "images": images,
            "inputs": values.text(&caching.inputs),
        });
        if declared.is_empty() {
            return Ok(Some(CacheKey::Whole(Key::of(&inputs.to_string()))));
        }
        let key = Key::of(&format!("{inputs} {contents}"));
        Ok(Some(CacheKey::Basis { key, contents }))
    }

    /// The digest of every image of `spec`, by name; nothing if one has none.
    fn digests<'s>(
        &mut self,
        spec: &'s TaskSpec,
        values: &Replacements,
        task: &PipelineTask,
    ) -> Result<Option<BTreeMap<String, String>>, Stop> {
        let given = given_for(&self.run, &task.name);
        let pull_secrets = given
            .pod_template
            .iter()
            .flat_map(|it| &it.image_pull_secrets);
        let pull_secrets: Vec<String> = pull_secrets.map(|it| it.name.clone()).collect();
        let template = spec.step_template.as_ref();
        let template = template.map_or(("", ""), |it| (&it.image, &it.image_pull_policy));
        let or = |given: &'s str, default: &'s str| match given {
            "" => default,
            given => given,
        };
        let steps = spec.steps.iter().map(|step| {
            let policy = or(&step.image_pull_policy, template.1);
            (or(&step.image, template.0), policy)
        });
        let sidecars = spec.sidecars.iter();
        let sidecars = sidecars.map(|it| (it.image.as_str(), it.image_pull_policy.as_str()));
        let mut digests = BTreeMap::new();
        let mut asked = false;
        for (image, policy) in steps.chain(sidecars) {
            let image = values.text(image);
            if image == HOST || image.contains("@sha256:") {
                digests.insert(image.clone(), image);
                continue;
            }
            let query = Query::ImageConfig(ImageRef {
                image: image.clone(),
                namespace: self.namespace().to_owned(),
                service_account: given.service_account_name.clone(),
                pull_secrets: pull_secrets.clone(),
                pull_policy: policy.to_owned(),
            });
            match self.inquiry.ask(query) {
                Known::Unasked => asked = true,
                Known::Found(Found::Image(found)) if found.pinned.contains("@sha256:") => {
                    digests.insert(image, found.pinned.clone());
                }
                _ => return Ok(None),
            }
        }
        if asked {
            Err(Stop::Ask)
        } else {
            Ok(Some(digests))
        }
    }
}
