//! Children that other runs have made and this one takes over: those of an earlier run that this is a rerun of.

use tektite_api::v1::{ChildStatusReference, PipelineSpec};

use super::pipeline::Origin;
use super::rerun;
use super::stop::Stop;
use super::task::{Adopted, Child, Kind, Resolved};
use super::work::Work;
use crate::annotations;
use crate::decision::{Found, Known, Query};

impl Work<'_> {
    /// Takes over from the earlier run what a rerun need not do again, before anything else of the run happens.
    pub(super) fn inherit(&mut self, origin: &Origin, spec: &PipelineSpec) -> Result<(), Stop> {
        let Some(name) = rerun::earlier(self.stored).map(str::to_owned) else {
            return Ok(());
        };
        let query = Query::PipelineRun {
            namespace: self.namespace().to_owned(),
            name: name.clone(),
        };
        let earlier = match self.inquiry.ask(query) {
            Known::Found(Found::PipelineRun(run)) => run,
            Known::Unasked => return Err(Stop::Ask),
            _ => return Err(self.refuse_rerun(&format!("there is no PipelineRun {name:?}"))),
        };
        let mut children: Vec<Child> = Vec::new();
        for child in &earlier.status.child_references {
            children.extend(self.ask_for_child(child));
        }
        if !self.inquiry.needs().is_empty() {
            return Err(Stop::Ask);
        }
        let conditions = |wanted: &ChildStatusReference| {
            let child = children
                .iter()
                .find(|child| child.name() == wanted.name && child.kind().name() == wanted.kind);
            child.map(Child::conditions)
        };
        // The name that context.pipeline.name stands for: of an inline pipeline the run's.
        let pipeline = match self.run.spec.pipeline_ref {
            Some(_) => origin.name.as_str(),
            None => &name,
        };
        let plan = match rerun::plan(self.stored, earlier, spec, pipeline, conditions) {
            Ok(plan) => plan,
            Err(error) => return Err(self.refuse_rerun(&error)),
        };
        let tasks: Vec<&str> = plan.tasks().into_iter().collect();
        self.run
            .status
            .annotations
            .insert(annotations::INHERITED.to_owned(), tasks.join(","));
        self.recorded.extend(tasks.into_iter().map(str::to_owned));
        children.retain(|child| plan.inherited.iter().any(|it| it.name == child.name()));
        self.run.status.child_references.extend(plan.inherited);
        self.adopted = children;
        Ok(())
    }

    fn refuse_rerun(&mut self, error: &str) -> Stop {
        let message = format!(
            "PipelineRun {:?} cannot go on from another: {error}",
            self.name()
        );
        self.fail(rerun::REFUSED, &message, error)
    }

    /// The child of another run, if it is there.
    fn ask_for_child(&mut self, child: &ChildStatusReference) -> Option<Child> {
        let (namespace, name) = (self.namespace().to_owned(), child.name.clone());
        let kinds = [Kind::Task, Kind::Custom, Kind::Pipeline];
        let query = match kinds.into_iter().find(|kind| kind.name() == child.kind)? {
            Kind::Task => Query::TaskRun { namespace, name },
            Kind::Custom => Query::CustomRun { namespace, name },
            Kind::Pipeline => Query::PipelineRun { namespace, name },
        };
        match self.inquiry.ask(query) {
            Known::Found(Found::TaskRun(run)) => Some(Child::Task(run.clone())),
            Known::Found(Found::CustomRun(run)) => Some(Child::Custom(run.clone())),
            Known::Found(Found::PipelineRun(run)) => Some(Child::Pipeline(run.clone())),
            _ => None,
        }
    }

    /// Writes down which tasks have what was taken over; what is deleted is made again (P-399).
    pub(super) fn note_adopted(&mut self, state: &[Resolved]) {
        let noted = &mut self.run.status.annotations;
        for (key, why) in [
            (annotations::INHERITED, Adopted::Inherited),
            (annotations::CACHED, Adopted::Cached),
        ] {
            let restored = |task: &Resolved| {
                why == Adopted::Cached && task.children.iter().any(Child::is_restored)
            };
            let adopted = state
                .iter()
                .filter(|task| task.adopted == Some(why) || restored(task));
            let mut names: Vec<&str> = adopted.map(|task| task.task.name.as_str()).collect();
            names.sort_unstable();
            if names.is_empty() {
                noted.remove(key);
            } else {
                noted.insert(key.to_owned(), names.join(","));
            }
        }
    }

    /// Why the children of this task were made by another run, if they were.
    pub(super) fn is_adopted(&self, task: &str) -> Option<Adopted> {
        let listed = |key: &str| {
            let tasks = self.run.status.annotations.get(key);
            tasks.is_some_and(|tasks| tasks.split(',').any(|it| it == task))
        };
        if listed(annotations::INHERITED) {
            Some(Adopted::Inherited)
        } else {
            listed(annotations::CACHED).then_some(Adopted::Cached)
        }
    }
}
