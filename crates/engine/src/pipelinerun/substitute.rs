//! Putting values into the fields of a pipeline's tasks.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use tektite_api::v1::{PipelineRun, PipelineSpec, PipelineTask};

use super::params::spellings;
use crate::matrix;
use crate::substitution::Replacements;

/// One pass over a pipeline or a task: what may go where.
pub(super) struct Pass {
    all: Replacements,
    /// Matrix params take arrays but no objects.
    no_objects: OnceCell<Replacements>,
    /// Includes take texts only.
    strings: OnceCell<Replacements>,
}

impl Pass {
    pub(super) fn new(all: Replacements) -> Self {
        Self {
            all,
            no_objects: OnceCell::new(),
            strings: OnceCell::new(),
        }
    }

    /// The fields of a pipeline's tasks that take params, contexts and workspaces (P-135).
    pub(super) fn pipeline(&self, spec: &mut PipelineSpec) {
        if self.all.is_empty() {
            return;
        }
        for task in spec.tasks.iter_mut().chain(&mut spec.finally) {
            self.shared_fields(task);
            if matrix::of(task).is_none() {
                self.all.apply(&mut task.display_name);
            }
            self.all.apply(&mut task.on_error);
            self.propagate(task);
        }
    }

    /// The fields of one task that take results of others (P-146).
    pub(super) fn task(&self, task: &mut PipelineTask) {
        if self.all.is_empty() {
            return;
        }
        self.shared_fields(task);
        self.all.apply(&mut task.display_name);
    }

    fn shared_fields(&self, task: &mut PipelineTask) {
        self.all.apply_params(&mut task.params);
        self.matrix(task);
        for workspace in &mut task.workspaces {
            self.all.apply(&mut workspace.sub_path);
        }
        self.reference_and_when(task);
    }

    fn matrix(&self, task: &mut PipelineTask) {
        if let Some(matrix) = &mut task.matrix {
            let no_objects = || Replacements {
                objects: BTreeMap::new(),
                ..self.all.clone()
            };
            let strings = || Replacements {
                strings: self.all.strings.clone(),
                ..Replacements::default()
            };
            if !matrix.params.is_empty() {
                let allowed = self.no_objects.get_or_init(no_objects);
                allowed.apply_params(&mut matrix.params);
            }
            for include in &mut matrix.include {
                let allowed = self.strings.get_or_init(strings);
                allowed.apply_params(&mut include.params);
            }
        }
    }

    fn reference_and_when(&self, task: &mut PipelineTask) {
        self.all.apply_when(&mut task.when);
        if let Some(reference) = &mut task.task_ref {
            self.all.apply_params(&mut reference.params);
            self.all.apply(&mut reference.name);
        }
    }

    /// The fields of a finally task that take the states of tasks (P-179).
    pub(super) fn finally_task(&self, task: &mut PipelineTask) {
        self.all.apply_params(&mut task.params);
        self.reference_and_when(task);
        self.all.apply(&mut task.display_name);
    }

    /// The fields that take `context.pipelineTask` and matrix lengths when a child is made (P-138, P-208).
    pub(super) fn task_at_creation(&self, task: &mut PipelineTask) {
        self.all.apply_params(&mut task.params);
        if let Some(matrix) = &mut task.matrix {
            self.all.apply_params(&mut matrix.params);
            for include in &mut matrix.include {
                self.all.apply_params(&mut include.params);
            }
        }
        self.all.apply(&mut task.display_name);
    }

    /// Puts values into an inline task; what the pipeline task passes under the same name shadows them (P-136).
    fn propagate(&self, task: &mut PipelineTask) {
        let Some(embedded) = &mut task.task_spec else {
            return;
        };
        let shadows = |name: &str| {
            spellings(name).iter().any(|key| {
                self.all.strings.contains_key(key)
                    || self.all.arrays.contains_key(key)
                    || self.all.objects.contains_key(key)
            })
        };
        // Contexts and workspaces are no params.
        let has_params = self
            .all
            .strings
            .keys()
            .chain(self.all.arrays.keys())
            .chain(self.all.objects.keys())
            .any(|key| key.starts_with("params"));
        if !has_params || !task.params.iter().any(|param| shadows(&param.name)) {
            self.all.apply_task_spec(&mut embedded.task);
            return;
        }
        let mut scoped = self.all.clone();
        for param in &task.params {
            for key in spellings(&param.name) {
                if let Some(text) = scoped.strings.get_mut(&key) {
                    *text = param.value.as_str().unwrap_or_default().to_owned();
                }
                if let Some(items) = scoped.arrays.get_mut(&key) {
                    *items = param.value.as_array().unwrap_or_default().to_vec();
                }
                if let Some(pairs) = scoped.objects.get_mut(&key) {
                    *pairs = param.value.as_object().cloned().unwrap_or_default();
                    let keys = pairs.iter().map(|(name, text)| {
                        (format!("params.{}.{name}", param.name), text.clone())
                    });
                    scoped.strings.extend(keys);
                }
            }
        }
        scoped.apply_task_spec(&mut embedded.task);
    }
}

/// `context.pipelineRun.*` and `context.pipeline.name` (P-138).
pub(super) fn contexts(pipeline: &str, run: &PipelineRun) -> Replacements {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Replacements::of_strings([
        ("context.pipelineRun.name", text(&run.metadata.name)),
        (
            "context.pipelineRun.namespace",
            text(&run.metadata.namespace),
        ),
        ("context.pipelineRun.uid", text(&run.metadata.uid)),
        ("context.pipeline.name", pipeline.to_owned()),
    ])
}

/// Fills in contexts; a display name takes them even in a matrixed task (P-135).
pub(super) fn apply_contexts(spec: &mut PipelineSpec, pipeline: &str, run: &PipelineRun) {
    let contexts = contexts(pipeline, run);
    for task in spec.tasks.iter_mut().chain(&mut spec.finally) {
        contexts.apply(&mut task.display_name);
    }
    Pass::new(contexts).pipeline(spec);
}

/// Fills in `workspaces.<w>.bound` (P-139).
pub(super) fn apply_workspaces(spec: &mut PipelineSpec, run: &PipelineRun) {
    let mut bound: BTreeMap<String, String> = BTreeMap::new();
    let key = |name: &str| format!("workspaces.{name}.bound");
    bound.extend(
        spec.workspaces
            .iter()
            .map(|declared| (key(&declared.name), "false".to_owned())),
    );
    bound.extend(
        run.spec
            .workspaces
            .iter()
            .map(|binding| (key(&binding.name), "true".to_owned())),
    );
    Pass::new(Replacements::of_strings(bound)).pipeline(spec);
}
