//! Drawing the spec of a run.

use serde_json::{Value, json};

use super::dice::Dice;

/// What a failure does to a pipeline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Temper {
    /// Anything.
    Wild,
    /// Nothing: every task continues on error.
    Forgiving,
    /// Nothing: tasks that do not continue on error succeed.
    Calm,
}

/// What others may ask of a task that was drawn before them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Producer {
    /// One TaskRun: a text `r` and a list `l`.
    Plain,
    /// Several TaskRuns: of each a text `r`.
    Matrixed,
    /// A CustomRun: a text `r`.
    Custom,
}

/// The spec of a run. In a `calm` one no failure stops the pipeline, so the order of events must not matter.
pub fn run_spec(dice: &mut Dice, calm: bool) -> Value {
    let temper = match (calm, dice.chance(50)) {
        (false, _) => Temper::Wild,
        (true, true) => Temper::Forgiving,
        (true, false) => Temper::Calm,
    };
    let size = match dice.below(100) {
        0..=1 => 21 + dice.below(40),
        2..=11 => 8 + dice.below(13),
        _ => 1 + dice.below(7),
    };
    let mut tasks: Vec<Value> = Vec::new();
    let mut drawn = Vec::new();
    for number in 0..size {
        let task = task(dice, temper, &format!("t{number}"), &drawn, false);
        drawn.push(if task["matrix"].is_object() {
            Producer::Matrixed
        } else if task["taskRef"].is_object() {
            Producer::Custom
        } else {
            Producer::Plain
        });
        tasks.push(task);
    }
    // Where a task stands must not matter, only what it refers to.
    for at in (1..tasks.len()).rev() {
        tasks.swap(at, dice.below(at + 1));
    }
    let finally: Vec<Value> = (0..dice.below(4))
        .map(|number| task(dice, temper, &format!("f{number}"), &drawn, true))
        .collect();
    let results: Vec<Value> = (0..dice.below(3))
        .map(|number| {
            let producer = dice.below(size);
            let star = if drawn[producer] == Producer::Matrixed { "[*]" } else { "" };
            json!({"name": format!("out{number}"), "value": format!("$(tasks.t{producer}.results.r{star})")})
        })
        .collect();
    let mut spec = json!({
        "params": [{"name": "none", "value": []}],
        "pipelineSpec": {
            "params": [{"name": "none", "type": "array"}], "results": results, "tasks": tasks, "finally": finally
        }
    });
    if !calm && dice.chance(30) {
        let mut timeouts = json!({"pipeline": format!("{}s", 30 + dice.below(200))});
        if dice.chance(50) {
            timeouts["tasks"] = json!(format!("{}s", 5 + dice.below(25)));
        }
        if dice.chance(50) {
            timeouts["finally"] = json!(format!("{}s", 1 + dice.below(10)));
        }
        spec["timeouts"] = timeouts;
    } else {
        spec["timeouts"] = json!({"pipeline": "0"});
    }
    spec
}

/// A task that refers to some of those `drawn` before it.
fn task(dice: &mut Dice, temper: Temper, name: &str, drawn: &[Producer], finally: bool) -> Value {
    let continues = temper == Temper::Forgiving || dice.chance(40);
    // A skipped parent's result in these places fails the run (P-172) unless all tasks continue on error.
    let anywhere = temper != Temper::Calm;
    let mut needs = Needs::default();
    for number in 0..dice.below(4).min(drawn.len()) {
        let parent = dice.below(drawn.len());
        needs.add(
            dice,
            number,
            parent,
            drawn[parent],
            !finally,
            anywhere && !finally,
        );
    }
    if dice.chance(10) {
        let allowed = if dice.chance(50) { "a" } else { "b" };
        needs
            .when
            .push(json!({"input": "a", "operator": "in", "values": [allowed]}));
    }
    if finally && dice.chance(30) && !drawn.is_empty() {
        let seen = dice.below(drawn.len());
        let state = if dice.chance(50) {
            format!("tasks.t{seen}.status")
        } else {
            "tasks.status".to_owned()
        };
        needs.when.push(json!({
            "input": format!("$({state})"), "operator": if dice.chance(50) { "in" } else { "notin" }, "values": ["Succeeded"]
        }));
    }
    let mut task = json!({"name": name, "runAfter": needs.after, "when": needs.when});
    if continues {
        task["onError"] = json!("continue");
    } else if dice.chance(30) {
        task["retries"] = json!(dice.below(3));
    }
    if dice.chance(10) {
        task["timeout"] = json!("17s");
    }
    if needs.declared.is_empty() && needs.script.is_empty() && dice.chance(8) {
        task["taskRef"] = json!({"apiVersion": "example.dev/v1", "kind": "Wait"});
        return task;
    }
    if dice.chance(15) {
        needs.declared.push(json!({"name": "m"}));
        task["matrix"] = matrix(dice, drawn, anywhere && !finally);
    }
    task["params"] = json!(needs.params);
    task["taskSpec"] = json!({
        "params": needs.declared, "results": [{"name": "r", "type": "string"}, {"name": "l", "type": "array"}],
        "steps": [{"name": "s", "image": "i", "script": needs.script}]
    });
    task
}

fn matrix(dice: &mut Dice, drawn: &[Producer], of_results: bool) -> Value {
    let plain: Vec<usize> = (0..drawn.len())
        .filter(|&at| drawn[at] == Producer::Plain)
        .collect();
    let values = if dice.chance(15) {
        json!("$(params.none[*])")
    } else if !plain.is_empty() && of_results && dice.chance(30) {
        json!(format!(
            "$(tasks.t{}.results.l[*])",
            plain[dice.below(plain.len())]
        ))
    } else {
        json!(["1", "2", "3"][..1 + dice.below(3)])
    };
    let mut matrix = json!({"params": [{"name": "m", "value": values}]});
    if dice.chance(20) && values.is_array() {
        matrix["include"] = json!([{"name": "more", "params": [{"name": "m", "value": "9"}]}]);
    }
    matrix
}

/// Where a task uses what others give.
#[derive(Default)]
struct Needs {
    params: Vec<Value>,
    declared: Vec<Value>,
    after: Vec<String>,
    when: Vec<Value>,
    script: String,
}

impl Needs {
    fn add(
        &mut self,
        dice: &mut Dice,
        number: usize,
        parent: usize,
        gives: Producer,
        ordered: bool,
        in_script: bool,
    ) {
        let text = format!("$(tasks.t{parent}.results.r)");
        let matrixed = gives == Producer::Matrixed;
        match dice.below(6) {
            0 if ordered => self.after.push(format!("t{parent}")),
            1 if !matrixed => self.when.push(json!({
                "input": text, "operator": if dice.chance(50) { "in" } else { "notin" }, "values": ["v0", "v1"]
            })),
            2 if !matrixed && in_script => self.script = format!("echo {text}"),
            3 if !matrixed && dice.chance(30) => self.when.push(json!({"cel": format!("'{text}' != 'v2'")})),
            4 if gives == Producer::Plain => {
                let (value, type_) = if dice.chance(50) { ("l[*]", "array") } else { ("l[0]", "string") };
                self.param(number, type_, &format!("$(tasks.t{parent}.results.{value})"));
            }
            _ if matrixed => self.param(number, "array", &format!("$(tasks.t{parent}.results.r[*])")),
            _ => self.param(number, "string", &text),
        }
    }

    fn param(&mut self, number: usize, type_: &str, value: &str) {
        let name = format!("x{number}");
        self.declared.push(json!({"name": name, "type": type_}));
        self.params.push(json!({"name": name, "value": value}));
    }
}
