//! The children of a run, and how each would live if nobody interfered.

use std::sync::Arc;

use serde::Serialize;
use tektite_api::v1::{
    Condition, Param, ParamValue, PipelineTask, TaskRun, TaskRunResult, TaskRunStatus, TaskSpec,
};
use tektite_api::v1beta1::{CustomRun, CustomRunResult};

use super::dice::Dice;

/// A version of a child.
#[derive(Clone)]
pub enum Child {
    Task(Arc<TaskRun>),
    Custom(Arc<CustomRun>),
}

impl Child {
    fn conditions(&self) -> &[Condition] {
        match self {
            Self::Task(run) => &run.status.conditions,
            Self::Custom(run) => &run.status.conditions,
        }
    }

    pub fn is_done(&self) -> bool {
        Condition::succeeded(self.conditions()).is_some_and(Condition::is_done)
    }

    pub fn is_told_to_end(&self) -> bool {
        match self {
            Self::Task(run) => run.is_cancelled(),
            Self::Custom(run) => run.spec.status == "RunCancelled",
        }
    }

    /// What it was made with.
    pub fn made(&self) -> Made<'_> {
        match self {
            Self::Task(run) => Made {
                name: run.metadata.name.as_deref(),
                params: &run.spec.params,
                task: run.spec.task_spec.as_ref(),
            },
            Self::Custom(run) => Made {
                name: run.metadata.name.as_deref(),
                params: &run.spec.params,
                task: None,
            },
        }
    }

    pub fn retries(&self) -> i64 {
        match self {
            Self::Task(run) => run.spec.retries,
            Self::Custom(run) => run.spec.retries,
        }
    }

    pub fn timeout(&self) -> Option<tektite_api::Duration> {
        match self {
            Self::Task(run) => run.spec.timeout,
            Self::Custom(run) => run.spec.timeout,
        }
    }

    /// How many elements its list has.
    pub fn list_length(&self) -> Option<usize> {
        let Self::Task(run) = self else { return None };
        let list = run.status.results.iter().find(|it| it.name == "l")?;
        list.value.as_array().map(<[String]>::len)
    }

    /// The version after somebody told it to end.
    pub fn told(&self, status: &str, message: &str) -> Self {
        match self {
            Self::Task(run) => {
                let mut run = TaskRun::clone(run);
                (run.spec.status, run.spec.status_message) = (status.into(), message.into());
                Self::Task(Arc::new(run))
            }
            Self::Custom(run) => {
                let mut run = CustomRun::clone(run);
                (run.spec.status, run.spec.status_message) = (status.into(), message.into());
                Self::Custom(Arc::new(run))
            }
        }
    }

    fn with(&self, status: &str, reason: &str, results: Option<&Results>, retried: usize) -> Self {
        let conditions = vec![Condition {
            type_: Condition::SUCCEEDED.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            ..Condition::default()
        }];
        match self {
            Self::Task(run) => {
                let mut run = TaskRun::clone(run);
                run.status.conditions = conditions;
                run.status.retries_status = vec![TaskRunStatus::default(); retried];
                run.status.results = results.map_or_else(Vec::new, |it| {
                    let result = |name: &str, value: ParamValue| TaskRunResult {
                        name: name.to_owned(),
                        type_: Some(value.type_()),
                        value,
                    };
                    vec![
                        result("r", ParamValue::String(it.text.clone())),
                        result("l", ParamValue::Array(it.list.clone())),
                    ]
                });
                Self::Task(Arc::new(run))
            }
            Self::Custom(run) => {
                let mut run = CustomRun::clone(run);
                run.status.conditions = conditions;
                run.status.results = results.map_or_else(Vec::new, |it| {
                    vec![CustomRunResult {
                        name: "r".to_owned(),
                        value: it.text.clone(),
                    }]
                });
                Self::Custom(Arc::new(run))
            }
        }
    }
}

/// What a child was made with.
#[derive(PartialEq, Serialize)]
pub struct Made<'c> {
    name: Option<&'c str>,
    params: &'c [Param],
    task: Option<&'c TaskSpec>,
}

struct Results {
    text: String,
    list: Vec<String>,
}

/// How a child lives.
pub struct Life {
    /// Whether it is seen running before anything else.
    starts: bool,
    /// Attempts that fail before the last.
    failures: usize,
    good: bool,
    results: Option<Results>,
}

impl Life {
    /// The life of the child called `name` of `task`.
    pub fn of(seed: u64, calm: bool, name: &str, task: &PipelineTask) -> Self {
        let mut dice = Dice(name.bytes().fold(seed ^ 0x5bd1_e995, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }));
        let may_fail = !calm || task.on_error == "continue";
        let good = !may_fail || dice.chance(if calm { 75 } else { 85 });
        let retries = usize::try_from(task.retries).unwrap_or_default();
        let failures = if good {
            dice.below(retries + 1)
        } else {
            retries
        };
        let results = Results {
            text: format!("v{}", dice.below(3)),
            list: (0..1 + dice.below(3)).map(|at| format!("e{at}")).collect(),
        };
        Self {
            starts: dice.chance(40),
            failures,
            good,
            results: (calm || dice.chance(85)).then_some(results),
        }
    }

    /// The version after `now`, which is the one of this number; `told` to end it obeys.
    pub fn next(&self, number: usize, now: &Child) -> Child {
        if now.is_told_to_end() {
            let reason = match now {
                Child::Task(_) => "TaskRunCancelled",
                Child::Custom(_) => "CustomRunCancelled",
            };
            return now.with("False", reason, None, 0);
        }
        let attempt = match (self.starts, number) {
            (true, 0) => return now.with("Unknown", "Running", None, 0),
            (true, number) => number - 1,
            (false, number) => number,
        };
        if attempt < self.failures {
            return now.with("Unknown", "ToBeRetried", None, attempt + 1);
        }
        let (status, reason) = if self.good {
            ("True", "Succeeded")
        } else {
            ("False", "Failed")
        };
        now.with(status, reason, self.results.as_ref(), self.failures)
    }

    /// Whether it has attempts that fail before the last.
    pub fn is_retried(&self) -> bool {
        self.failures > 0
    }
}
