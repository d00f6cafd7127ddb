//! CEL expressions as they are compiled upstream: no variables, the standard functions and macros, types that fit.

mod depth;
mod types;

use cel::Program;
use cel::parser::ParseError;

/// How many errors of one expression are told.
const TOLD: usize = 100;

/// How deep the parts of an expression may lie in each other, as in cel-go.
const DEEPEST: usize = 250;
/// Up to here the parser's stack is no question.
const SHALLOW: usize = 8;
/// Enough for the deepest; what is not used costs nothing.
const LARGE_STACK: usize = 64 << 20;

/// Compiles `expression` in an environment without variables.
///
/// Types are inferred as far as the standard functions and operators of simple values go; whatever is not known for
/// sure is left to the evaluation.
///
/// # Errors
/// It does not parse, nests too deep, names something that does not exist, or applies an operator to types that do not fit: every
/// finding in cel-go's form, message above the line of source and a mark under the place.
pub fn compile(expression: &str) -> Result<Program, String> {
    let depth = depth::depth(expression);
    if depth > DEEPEST {
        return Err(format!(
            "ERROR: <input>:-1:0: expression recursion limit exceeded: {DEEPEST}"
        ));
    }
    let program = if depth > SHALLOW {
        with_large_stack(|| parse(expression))?
    } else {
        parse(expression)?
    };
    let found = types::check(program.expression(), program.source_info());
    if found.is_empty() {
        Ok(program)
    } else {
        Err(display(found, expression))
    }
}

fn parse(expression: &str) -> Result<Program, String> {
    Program::compile(expression).map_err(|errors| {
        let found = errors.errors.iter().map(Finding::from).collect();
        display(found, expression)
    })
}

/// The parser takes up to a hundred kilobytes of stack for a pair of brackets.
fn with_large_stack<T: Send>(
    parse: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(LARGE_STACK)
            .spawn_scoped(scope, parse)
            .map_err(|error| format!("cannot parse the expression: {error}"))?;
        thread
            .join()
            .unwrap_or_else(|_| Err("cannot parse the expression: the parser failed".into()))
    })
}

/// Something wrong at a place.
struct Finding {
    /// From 1.
    line: usize,
    /// From 0, in characters.
    column: usize,
    message: String,
}

impl From<&ParseError> for Finding {
    fn from(error: &ParseError) -> Self {
        Finding {
            line: usize::try_from(error.pos.0).unwrap_or_default(),
            column: usize::try_from(error.pos.1 - 1).unwrap_or_default(),
            message: error.msg.clone(),
        }
    }
}

fn display(mut found: Vec<Finding>, source: &str) -> String {
    found.sort_by_key(|finding| (finding.line, finding.column));
    let mut texts: Vec<String> = found
        .iter()
        .take(TOLD)
        .map(|finding| display_one(finding, source))
        .collect();
    if found.len() > TOLD {
        texts.push(format!("{} more errors were truncated", found.len() - TOLD));
    }
    texts.join("\n")
}

fn display_one(finding: &Finding, source: &str) -> String {
    let Finding {
        line,
        column,
        message,
    } = finding;
    let mut text = format!("ERROR: <input>:{line}:{}: {message}", column + 1);
    let Some(snippet) = line
        .checked_sub(1)
        .and_then(|at| source.split('\n').nth(at))
    else {
        return text;
    };
    let snippet = snippet.replace('\t', " ");
    let mut marks = String::new();
    let mut characters = snippet.chars();
    for character in characters.by_ref().take(*column) {
        marks.push(if character.is_ascii() {
            '.'
        } else {
            '\u{ff0e}'
        });
    }
    let wide = characters.next().is_some_and(|c| !c.is_ascii());
    marks.push(if wide { '\u{ff3e}' } else { '^' });
    text.push_str(&format!("\n | {snippet}\n | {marks}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T-042, P-063
    #[test]
    fn what_upstream_compiles_compiles() {
        for expression in [
            " 'foo' == 'foo' ",
            "'foo' in ['foo', 'bar']",
            "!('foo' in ['foo', 'bar'])",
            "'release/v1'.matches('release/.*')",
            "'$(params.foo)' in ['foo', 'bar']",
            "[1, 2].exists(x, x > 1) && [1, 2].all(y, y < 3) && size([1].map(z, z * 2)) == 1",
            "has({'a': 1}.a) ? true : false",
            "type(1) == int && duration('1s') < duration('2s')",
            "timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026",
            "int('3') + 4 == 7 && string(1) + 'a' == '1a' && dyn(1) == 'a'",
            "google.protobuf.Duration{seconds: 1} == duration('1s')",
            "{'a': 1}['a'] == 1 && 'abc'.size() == 3 && -1 < 2",
        ] {
            assert_eq!(compile(expression).err(), None, "{expression}");
        }
    }

    /// T-042, P-063: the texts are cel-go's.
    #[test]
    fn what_does_not_parse_or_fit_is_told_with_its_place() {
        for (expression, expected) in [
            (
                "params.foo == 'foo'",
                "ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params.foo == 'foo'\n | ^",
            ),
            (
                "'a' == a || b",
                "ERROR: <input>:1:8: undeclared reference to 'a' (in container '')\n | 'a' == a || b\n | .......^\nERROR: <input>:1:13: undeclared reference to 'b' (in container '')\n | 'a' == a || b\n | ............^",
            ),
            (
                "'é' == x",
                "ERROR: <input>:1:8: undeclared reference to 'x' (in container '')\n | 'é' == x\n | .．.....^",
            ),
            (
                "shout('a')",
                "ERROR: <input>:1:6: undeclared reference to 'shout' (in container '')\n | shout('a')\n | .....^",
            ),
            (
                "'a' ==\n\t1",
                "ERROR: <input>:1:5: found no matching overload for '_==_' applied to '(string, int)'\n | 'a' ==\n | ....^",
            ),
            (
                "1.startsWith('a')",
                "ERROR: <input>:1:13: found no matching overload for 'startsWith' applied to 'int.(string)'\n | 1.startsWith('a')\n | ............^",
            ),
            (
                "1 && true",
                "ERROR: <input>:1:1: expected type 'bool' but found 'int'\n | 1 && true\n | ^",
            ),
        ] {
            assert_eq!(
                compile(expression).err().as_deref(),
                Some(expected),
                "{expression}"
            );
        }
    }

    /// T-042, P-063
    #[test]
    fn a_variable_without_quotes_does_not_parse() {
        for expression in ["$(params.foo) == 'foo'", "'a' ==", "", "a b"] {
            let text = compile(expression).err().unwrap_or_default();
            assert!(
                text.starts_with("ERROR: <input>:1:"),
                "{expression}: {text}"
            );
            assert!(text.contains("Syntax error: "), "{expression}: {text}");
        }
    }

    #[test]
    fn deep_expressions_are_refused_and_break_nothing() {
        for (start, repeated, end) in [
            ("x", ".a", ""),
            ("1", "+1", ""),
            ("1", "==1", ""),
            ("", "(", ""),
            ("", "[", ""),
            ("", "-", "1"),
            ("", "!", "true"),
            ("", "{1:", ""),
            ("", "true?1:", "1"),
            ("", "size(", ""),
            ("x", "[0]", ""),
            ("x", ".f()", ""),
            ("true", "&&true", ""),
            ("", "[1].map(x,", ""),
        ] {
            for times in [40, 100, 240, 300, 40_000] {
                let expression = format!("{start}{}{end}", repeated.repeat(times));
                let compiled = compile(&expression);
                let flat = repeated == "&&true";
                assert!(
                    compiled.is_err() || times < 300 || flat,
                    "{repeated} {times}"
                );
            }
        }
    }

    #[test]
    fn only_so_many_errors_are_told() {
        let text = compile(&format!("[{}]", vec!["x"; 130].join(", ")))
            .err()
            .unwrap_or_default();
        assert!(text.ends_with("\n30 more errors were truncated"), "{text}");
    }
}
