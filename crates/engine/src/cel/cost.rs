//! What evaluating an expression can cost at most, told from its text: macros in macros multiply, and a handful of them
//! would keep a controller busy for years. cel-go has limits for that, which upstream does not set.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators as op};

/// Steps that an expression may take; they are some tenths of a second.
pub(super) const MOST: u64 = 1_000_000;

/// How much more than its parts the text of a value can be.
const TEXT: u64 = 64;
/// A regular expression is compiled each time.
const REGEX: u64 = 1000;

/// Bounds of a value's size.
#[derive(Clone, Copy, Default)]
struct Size {
    /// Values in it that a macro would go through.
    items: u64,
    /// Of all of it: bytes and values.
    weight: u64,
    /// Of the largest value in it.
    element: u64,
}

impl Size {
    const SCALAR: Self = Self {
        items: 0,
        weight: 1,
        element: 1,
    };

    /// Something of this weight, of whatever kind.
    fn unknown(weight: u64) -> Self {
        Self {
            items: weight,
            weight,
            element: weight,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            items: self.items.saturating_add(other.items),
            weight: self.weight.saturating_add(other.weight),
            element: self.element.max(other.element),
        }
    }

    fn times(self, number: u64) -> Self {
        Self {
            items: self.items.saturating_mul(number),
            weight: self.weight.saturating_mul(number),
            element: self.element,
        }
    }
}

/// Names in scope, the innermost last.
type Scope<'e> = Vec<(&'e str, Size)>;

/// The most steps that `expression` can take, at least by order of magnitude.
pub(super) fn of(expression: &IdedExpr) -> u64 {
    estimate(&expression.expr, &mut Scope::new()).0
}

/// Steps, and the size of the value.
fn estimate<'e>(expression: &'e Expr, scope: &mut Scope<'e>) -> (u64, Size) {
    match expression {
        Expr::Unspecified => (1, Size::SCALAR),
        Expr::Ident(name) => {
            let known = scope.iter().rev().find(|(known, _)| known == name);
            (1, known.map_or(Size::SCALAR, |(_, size)| *size))
        }
        Expr::Literal(literal) => {
            let bytes = match literal {
                LiteralValue::String(text) => text.inner().len(),
                LiteralValue::Bytes(bytes) => bytes.inner().len(),
                _ => 1,
            };
            let weight = (bytes as u64).max(1);
            let size = Size {
                items: 0,
                weight,
                element: weight,
            };
            (1, size)
        }
        Expr::List(list) => parts(list.elements.iter(), scope),
        Expr::Map(map) => entries(map.entries.iter().map(|it| &it.expr), scope),
        Expr::Struct(message) => entries(message.entries.iter().map(|it| &it.expr), scope),
        Expr::Select(select) => {
            let (cost, size) = estimate(&select.operand.expr, scope);
            let size = match select.test {
                true => Size::SCALAR,
                false => Size::unknown(size.element),
            };
            (cost.saturating_add(1), size)
        }
        Expr::Call(call) => {
            let mut cost: u64 = 1;
            let mut size = Size::default();
            for part in call.target.as_deref().into_iter().chain(&call.args) {
                let (more, of_part) = estimate(&part.expr, scope);
                // It may look at all of it.
                cost = cost.saturating_add(more).saturating_add(of_part.weight);
                size = size.and(of_part);
            }
            if call.func_name == "matches" {
                cost = cost.saturating_add(REGEX);
            }
            (cost, result(&call.func_name, size))
        }
        Expr::Comprehension(it) => {
            let (of_range, range) = estimate(&it.iter_range.expr, scope);
            let (of_start, start) = estimate(&it.accu_init.expr, scope);
            let names = scope.len();
            scope.push((&it.iter_var, Size::unknown(range.element)));
            if let Some(second) = &it.iter_var2 {
                scope.push((second, Size::unknown(range.element)));
            }
            // So what the step gives is how much it adds.
            scope.push((&it.accu_var, Size::default()));
            let (of_condition, _) = estimate(&it.loop_cond.expr, scope);
            let (of_step, growth) = estimate(&it.loop_step.expr, scope);
            scope.pop();
            scope.push((&it.accu_var, start.and(growth.times(range.items))));
            let (of_result, size) = estimate(&it.result.expr, scope);
            scope.truncate(names);
            let round = of_condition.saturating_add(of_step);
            let cost = [
                of_range,
                of_start,
                round.saturating_mul(range.items),
                of_result,
            ]
            .into_iter()
            .fold(1, u64::saturating_add);
            (cost, size)
        }
    }
}

/// A value of these parts.
fn parts<'e>(parts: impl Iterator<Item = &'e IdedExpr>, scope: &mut Scope<'e>) -> (u64, Size) {
    let mut cost: u64 = 1;
    let mut size = Size::SCALAR;
    for part in parts {
        let (more, of_part) = estimate(&part.expr, scope);
        cost = cost.saturating_add(more).saturating_add(of_part.weight);
        size.items = size.items.saturating_add(1);
        size.weight = size.weight.saturating_add(of_part.weight);
        size.element = size.element.max(of_part.weight);
    }
    (cost, size)
}

fn entries<'e>(entries: impl Iterator<Item = &'e EntryExpr>, scope: &mut Scope<'e>) -> (u64, Size) {
    let values = entries.flat_map(|entry| match entry {
        EntryExpr::StructField(field) => [None, Some(&field.value)],
        EntryExpr::MapEntry(entry) => [Some(&entry.key), Some(&entry.value)],
    });
    parts(values.flatten(), scope)
}

/// The size of what a function makes of arguments of this size together.
fn result(function: &str, arguments: Size) -> Size {
    match function {
        op::ADD | op::CONDITIONAL => arguments,
        op::INDEX | op::OPT_INDEX => Size::unknown(arguments.element),
        op::LOGICAL_AND
        | op::LOGICAL_OR
        | op::LOGICAL_NOT
        | op::EQUALS
        | op::NOT_EQUALS
        | op::GREATER
        | op::GREATER_EQUALS
        | op::LESS
        | op::LESS_EQUALS
        | op::IN
        | op::NOT_STRICTLY_FALSE
        | op::SUBSTRACT
        | op::MULTIPLY
        | op::DIVIDE
        | op::MODULO
        | op::NEGATE
        | "startsWith"
        | "endsWith"
        | "contains"
        | "matches"
        | "size"
        | "int"
        | "uint"
        | "double"
        | "bool" => Size::SCALAR,
        _ => Size::unknown(arguments.weight.saturating_add(TEXT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(expression: &str) -> u64 {
        let program = tektite_api::cel::compile(expression).expect("it compiles");
        of(program.expression())
    }

    #[test]
    fn what_people_write_costs_little() {
        let names: Vec<String> = (0..500).map(|at| format!("'release/{at}'")).collect();
        let names = names.join(", ");
        for expression in [
            "'a' == 'a' && !('b' in ['a', 'b'])".to_owned(),
            "'release/v1'.matches('release/.*') || has({'a': {'b': 1}}.a)".to_owned(),
            format!("[{names}].exists(x, x.startsWith('release/4') && x.size() > 3)"),
            format!("[{names}].filter(x, x.endsWith('7')).map(x, x + '!').size() == 50"),
            "[1, 2, 3].all(x, [4, 5, 6].all(y, [7, 8, 9].exists(z, x + y < z + 9)))".to_owned(),
        ] {
            assert!(
                cost(&expression) < MOST,
                "{} {expression}",
                cost(&expression)
            );
        }
    }

    #[test]
    fn macros_in_macros_and_sums_of_sums_cost_too_much() {
        let ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
        let nested = (0..9).fold("true".to_owned(), |inner, at| {
            format!("{ten}.all(x{at}, {inner})")
        });
        let doubled = (0..40).fold("['aa']".to_owned(), |list, _| {
            format!("{list}.map(x, x + x)")
        });
        let lists = (0..40).fold(format!("[{ten}]"), |list, _| {
            format!("{list}.map(x, x + x)")
        });
        for expression in [
            nested,
            format!("{doubled}.size() == 1"),
            format!("{lists}.all(x, x.all(y, y < 10))"),
        ] {
            assert!(
                cost(&expression) > MOST,
                "{} {expression}",
                cost(&expression)
            );
        }
    }
}
