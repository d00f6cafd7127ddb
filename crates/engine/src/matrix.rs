//! Fanning a pipeline task out over a matrix of params.

use std::collections::BTreeMap;

use tektite_api::v1::{Matrix, Param, ParamValue, PipelineTask};

type Combination = BTreeMap<String, String>;

/// The matrix of `task`, if it has one that fans out.
#[must_use]
pub fn of(task: &PipelineTask) -> Option<&Matrix> {
    task.matrix
        .as_ref()
        .filter(|matrix| !matrix.params.is_empty() || !matrix.include.is_empty())
}

/// The params of each combination in the order of the children's numbers: the first matrix param varies fastest
/// (P-203), each combination is sorted by name (P-204), and includes extend or add combinations (P-205, P-206).
#[must_use]
pub fn combinations(matrix: &Matrix) -> Vec<Vec<Param>> {
    let includes: Vec<Combination> = matrix
        .include
        .iter()
        .map(|include| pairs(&include.params))
        .collect();
    if matrix.params.is_empty() {
        return includes.iter().map(params).collect();
    }
    let mut all: Vec<Combination> = Vec::new();
    for param in &matrix.params {
        let values = param.value.as_array().unwrap_or_default();
        all = if all.is_empty() {
            values
                .iter()
                .map(|value| Combination::from([(param.name.clone(), value.clone())]))
                .collect()
        } else {
            let with = |value: &String, combination: &Combination| {
                let mut wider = combination.clone();
                wider.insert(param.name.clone(), value.clone());
                wider
            };
            values
                .iter()
                .flat_map(|value| all.iter().map(move |combination| with(value, combination)))
                .collect()
        };
    }
    for combination in &mut all {
        for include in &includes {
            let fits = include
                .iter()
                .all(|(name, value)| combination.get(name).is_none_or(|own| own == value));
            if fits {
                combination.extend(include.clone());
            }
        }
    }
    for include in includes {
        let matches = |combination: &Combination| {
            include
                .iter()
                .any(|(name, value)| combination.get(name) == Some(value))
        };
        if !include.is_empty() && !all.iter().any(matches) {
            all.push(include);
        }
    }
    all.iter().map(params).collect()
}

fn pairs(params: &[Param]) -> Combination {
    params
        .iter()
        .map(|param| {
            (
                param.name.clone(),
                param.value.as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

fn params(combination: &Combination) -> Vec<Param> {
    combination
        .iter()
        .map(|(name, value)| Param::new(name.clone(), value.clone()))
        .collect()
}

/// How many children a matrix makes: counted apart from [`combinations`], with which it need not agree (P-207).
/// Arrays that are empty or not known yet count as one; saturates instead of overflowing (P-200).
#[must_use]
pub fn count(matrix: &Matrix) -> usize {
    if matrix.params.is_empty() {
        return matrix.include.len();
    }
    let generated = matrix
        .params
        .iter()
        .map(|param| param.value.as_array().unwrap_or_default().len())
        .filter(|&length| length > 0)
        .fold(1usize, usize::saturating_mul);
    let mut added = 0usize;
    for include in &matrix.include {
        for param in &include.params {
            let Some(own) = matrix
                .params
                .iter()
                .rev()
                .find(|own| own.name == param.name)
            else {
                continue;
            };
            let value = param.value.as_str().unwrap_or_default();
            if own
                .value
                .as_array()
                .unwrap_or_default()
                .iter()
                .any(|known| known == value)
            {
                break;
            }
            added = added.saturating_add(1);
        }
    }
    generated.saturating_add(added)
}

/// Whether some matrix param is an array without elements (P-173).
#[must_use]
pub fn has_empty_array(task: &PipelineTask) -> bool {
    of(task).is_some_and(|matrix| {
        matrix
            .params
            .iter()
            .any(|param| matches!(&param.value, ParamValue::Array(items) if items.is_empty()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fan_out(matrix: Value) -> (Vec<String>, usize) {
        let matrix: Matrix = serde_json::from_value(matrix).unwrap();
        let text = |params: &Vec<Param>| {
            let pairs: Vec<String> = params
                .iter()
                .map(|param| format!("{}={}", param.name, param.value.as_str().unwrap()))
                .collect();
            pairs.join(" ")
        };
        (
            combinations(&matrix).iter().map(text).collect(),
            count(&matrix),
        )
    }

    #[test]
    fn combinations_come_in_tektons_order_and_number() {
        let platforms = json!([
            {"name": "platform", "value": ["linux", "mac"]},
            {"name": "browser", "value": ["chrome", "safari"]}
        ]);
        let cases = [
            // P-203, P-204: the first param varies fastest; names are sorted.
            (
                json!({"params": platforms}),
                vec![
                    "browser=chrome platform=linux",
                    "browser=chrome platform=mac",
                    "browser=safari platform=linux",
                    "browser=safari platform=mac",
                ],
                4,
            ),
            // P-205: merged where nothing conflicts.
            (
                json!({"params": [{"name": "p", "value": ["a", "b"]}], "include": [
                    {"params": [{"name": "p", "value": "a"}, {"name": "flag", "value": "x"}]},
                    {"params": [{"name": "all", "value": "y"}]}
                ]}),
                vec!["all=y flag=x p=a", "all=y p=b"],
                2,
            ),
            // P-205: appended where no pair matches.
            (
                json!({"params": [{"name": "p", "value": ["a"]}], "include": [
                    {"params": [{"name": "p", "value": "z"}, {"name": "q", "value": "1"}]}
                ]}),
                vec!["p=a", "p=z q=1"],
                2,
            ),
            // P-205: entries work in order on the growing result.
            (
                json!({"params": [{"name": "p", "value": ["a"]}], "include": [
                    {"params": [{"name": "q", "value": "1"}]},
                    {"params": [{"name": "q", "value": "2"}]}
                ]}),
                // P-207: the combination beyond the count is never made.
                vec!["p=a q=1", "q=2"],
                1,
            ),
            // P-206
            (
                json!({"include": [{"params": [{"name": "x", "value": "1"}]}, {"params": [{"name": "y", "value": "2"}]}]}),
                vec!["x=1", "y=2"],
                2,
            ),
        ];
        for (matrix, expected, number) in cases {
            let (all, counted) = fan_out(matrix.clone());
            assert_eq!(all, expected, "{matrix}");
            assert_eq!(counted, number, "{matrix}");
        }
    }

    #[test]
    fn an_array_not_known_yet_counts_as_one_and_the_count_saturates() {
        // P-200, P-208
        let matrix = json!({"params": [{"name": "p", "value": "$(tasks.a.results.r[*])"}, {"name": "q", "value": ["1", "2"]}]});
        assert_eq!(fan_out(matrix).1, 2);
        let many: Vec<Value> = (0..16)
            .map(|i| json!({"name": format!("p{i}"), "value": vec!["x"; 100]}))
            .collect();
        let matrix: Matrix = serde_json::from_value(json!({"params": many})).unwrap();
        assert_eq!(count(&matrix), usize::MAX);
    }

    #[test]
    fn an_empty_array_is_noticed() {
        // P-173
        let task = |value: Value| -> PipelineTask {
            serde_json::from_value(
                json!({"name": "t", "matrix": {"params": [{"name": "p", "value": value}]}}),
            )
            .unwrap()
        };
        assert!(has_empty_array(&task(json!([]))));
        assert!(!has_empty_array(&task(json!(["a"]))));
        assert!(!has_empty_array(&task(json!("$(tasks.a.results.r[*])"))));
    }
}
