//! JSON Patch as Kubernetes applies it: `replace` adds what is missing, negative indices count from the end (K-098
//! to K-100).

use serde_json::Value;

use crate::error::ApiError;

const MAX_OPERATIONS: usize = 10_000;

/// Applies the operations in order; on an error nothing of `document` may be used.
pub fn apply(document: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Value::Array(operations) = patch else {
        return Err(ApiError::bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    for operation in operations {
        one(document, operation).ok_or_else(refused)?;
    }
    Ok(())
}

fn refused() -> ApiError {
    ApiError::unprocessable("the server rejected our request due to an error in our request")
}

fn one(document: &mut Value, operation: &Value) -> Option<()> {
    let path = Pointer::parse(operation.get("path")?.as_str()?)?;
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match operation.get("op")?.as_str()? {
        "add" => path.add(document, value()),
        "remove" => path.remove(document).map(drop),
        "replace" => path.replace(document, value()),
        "test" => {
            let expected = value();
            let found = path.get(document);
            (found.map_or(expected.is_null(), |found| *found == expected)).then_some(())
        }
        "move" => {
            let value = Pointer::parse(operation.get("from")?.as_str()?)?.remove(document)?;
            path.add(document, value)
        }
        "copy" => {
            let value = Pointer::parse(operation.get("from")?.as_str()?)?
                .get(document)?
                .clone();
            path.add(document, value)
        }
        _ => None,
    }
}

struct Pointer(Vec<String>);

impl Pointer {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Vec::new()));
        }
        let parts = text.strip_prefix('/')?.split('/');
        Some(Self(
            parts
                .map(|part| part.replace("~1", "/").replace("~0", "~"))
                .collect(),
        ))
    }

    fn get<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(document, |at, key| match at {
            Value::Object(map) => map.get(key),
            Value::Array(list) => list.get(index(key, list.len())?),
            _ => None,
        })
    }

    fn parent<'a>(&self, document: &'a mut Value) -> Option<(&'a mut Value, &str)> {
        let (last, parents) = self.0.split_last()?;
        let parent = parents.iter().try_fold(document, |at, key| match at {
            Value::Object(map) => map.get_mut(key),
            Value::Array(list) => {
                let index = index(key, list.len())?;
                list.get_mut(index)
            }
            _ => None,
        })?;
        Some((parent, last))
    }

    fn add(&self, document: &mut Value, value: Value) -> Option<()> {
        if self.0.is_empty() {
            *document = value;
            return Some(());
        }
        match self.parent(document)? {
            (Value::Object(map), key) => {
                map.insert(key.to_owned(), value);
            }
            (Value::Array(list), "-") => list.push(value),
            (Value::Array(list), key) => {
                // A negative index counts from the end of the list as it will be.
                let at = index(key, list.len() + 1)?;
                list.insert(at, value);
            }
            _ => return None,
        }
        Some(())
    }

    fn remove(&self, document: &mut Value) -> Option<Value> {
        match self.parent(document)? {
            (Value::Object(map), key) => map.remove(key),
            (Value::Array(list), key) => {
                let index = index(key, list.len())?;
                Some(list.remove(index))
            }
            _ => None,
        }
    }

    fn replace(&self, document: &mut Value, value: Value) -> Option<()> {
        if self.0.is_empty() {
            *document = value;
            return Some(());
        }
        match self.parent(document)? {
            (Value::Object(map), key) => {
                map.insert(key.to_owned(), value);
            }
            (Value::Array(list), key) => {
                let index = index(key, list.len())?;
                list[index] = value;
            }
            _ => return None,
        }
        Some(())
    }
}

/// A list index below `length`.
fn index(key: &str, length: usize) -> Option<usize> {
    let number: i64 = key.parse().ok()?;
    let index = if number < 0 {
        number + length as i64
    } else {
        number
    };
    usize::try_from(index).ok().filter(|index| *index < length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_apply_or_refuse_as_in_kubernetes() {
        // K-098, K-099, K-100
        let start = json!({"a": {"b": 1}, "list": [1, 2]});
        for (patch, expected) in [
            (
                json!([{"op": "replace", "path": "/a/new", "value": 5}]),
                Some(json!({"a": {"b": 1, "new": 5}, "list": [1, 2]})),
            ),
            (json!([{"op": "replace", "path": "/x/y", "value": 5}]), None),
            (json!([{"op": "remove", "path": "/a/none"}]), None),
            (json!([{"op": "test", "path": "/a/b", "value": 2}]), None),
            (
                json!([{"op": "add", "path": "/list/-", "value": 3}]),
                Some(json!({"a": {"b": 1}, "list": [1, 2, 3]})),
            ),
            (
                json!([{"op": "remove", "path": "/list/-1"}]),
                Some(json!({"a": {"b": 1}, "list": [1]})),
            ),
            (json!([{"op": "add", "path": "/list/7", "value": 3}]), None),
            (
                json!([{"op": "replace", "path": "/list"}]),
                Some(json!({"a": {"b": 1}, "list": null})),
            ),
            (
                json!([{"op": "add", "path": "/a/x~1y", "value": 0}]),
                Some(json!({"a": {"b": 1, "x/y": 0}, "list": [1, 2]})),
            ),
            (
                json!([{"op": "move", "from": "/a/b", "path": "/c"}]),
                Some(json!({"a": {}, "c": 1, "list": [1, 2]})),
            ),
        ] {
            let mut document = start.clone();
            let result = apply(&mut document, &patch).ok().map(|()| document);
            assert_eq!(result, expected, "{patch}");
        }
    }
}
