//! What cel-go's type checker would refuse: undeclared names, and operators and functions on simple values of types
//! that do not fit. Types that are not known for sure fit everywhere.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};

use super::Finding;
use Type::{Bool, Bytes, Double, Duration, Int, String, Timestamp, Uint};

/// The types of simple values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Bool,
    Bytes,
    Double,
    Duration,
    Int,
    String,
    Timestamp,
    Uint,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Bool => "bool",
            Bytes => "bytes",
            Double => "double",
            Duration => "duration",
            Int => "int",
            String => "string",
            Timestamp => "timestamp",
            Uint => "uint",
        }
    }
}

/// Names of types, which are values too.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];
/// Where the types of messages that every environment knows are.
const MESSAGES: &str = "google";

/// Argument types, the receiver first, and the type of the result.
type Overload = (&'static [Type], Type);

const NUMBERS: &[Overload] = &[
    (&[Double, Double], Double),
    (&[Int, Int], Int),
    (&[Uint, Uint], Uint),
];
const ORDER: &[Overload] = &[
    (&[Bool, Bool], Bool),
    (&[Bytes, Bytes], Bool),
    (&[Duration, Duration], Bool),
    (&[String, String], Bool),
    (&[Timestamp, Timestamp], Bool),
    (&[Double, Double], Bool),
    (&[Double, Int], Bool),
    (&[Double, Uint], Bool),
    (&[Int, Double], Bool),
    (&[Int, Int], Bool),
    (&[Int, Uint], Bool),
    (&[Uint, Double], Bool),
    (&[Uint, Int], Bool),
    (&[Uint, Uint], Bool),
];
const OF_TIME: &[Overload] = &[(&[Timestamp], Int), (&[Timestamp, String], Int)];
const OF_TIME_OR_DURATION: &[Overload] = &[
    (&[Timestamp], Int),
    (&[Timestamp, String], Int),
    (&[Duration], Int),
];

/// What is declared of a function, as far as it concerns simple values.
enum Declared {
    /// Of simple values it takes these.
    Overloads(&'static [Overload]),
    /// It takes whatever there is.
    Anything,
    /// There is none of that name.
    Not,
}

fn declared(name: &str, member: bool) -> Declared {
    use operators as op;
    let overloads: &[Overload] = match (name, member) {
        (op::ADD, false) => &[
            (&[Bytes, Bytes], Bytes),
            (&[Double, Double], Double),
            (&[Duration, Duration], Duration),
            (&[Duration, Timestamp], Timestamp),
            (&[Timestamp, Duration], Timestamp),
            (&[Int, Int], Int),
            (&[String, String], String),
            (&[Uint, Uint], Uint),
        ],
        (op::SUBSTRACT, false) => &[
            (&[Double, Double], Double),
            (&[Duration, Duration], Duration),
            (&[Int, Int], Int),
            (&[Timestamp, Duration], Timestamp),
            (&[Timestamp, Timestamp], Duration),
            (&[Uint, Uint], Uint),
        ],
        (op::MULTIPLY | op::DIVIDE, false) => NUMBERS,
        (op::MODULO, false) => &[(&[Int, Int], Int), (&[Uint, Uint], Uint)],
        (op::NEGATE, false) => &[(&[Double], Double), (&[Int], Int)],
        (op::LOGICAL_NOT, false) => &[(&[Bool], Bool)],
        (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, false) => ORDER,
        (op::INDEX | op::IN, false) => &[],
        ("size", _) => &[(&[Bytes], Int), (&[String], Int)],
        ("bool", false) => &[(&[Bool], Bool), (&[String], Bool)],
        ("bytes", false) => &[(&[Bytes], Bytes), (&[String], Bytes)],
        ("double", false) => &[
            (&[Double], Double),
            (&[Int], Double),
            (&[String], Double),
            (&[Uint], Double),
        ],
        ("duration", false) => &[(&[Duration], Duration), (&[String], Duration)],
        ("int", false) => &[
            (&[Int], Int),
            (&[Double], Int),
            (&[Duration], Int),
            (&[String], Int),
            (&[Timestamp], Int),
            (&[Uint], Int),
        ],
        ("string", false) => &[
            (&[String], String),
            (&[Bool], String),
            (&[Bytes], String),
            (&[Double], String),
            (&[Duration], String),
            (&[Int], String),
            (&[Timestamp], String),
            (&[Uint], String),
        ],
        ("timestamp", false) => &[
            (&[Timestamp], Timestamp),
            (&[Int], Timestamp),
            (&[String], Timestamp),
        ],
        ("uint", false) => &[
            (&[Uint], Uint),
            (&[Double], Uint),
            (&[Int], Uint),
            (&[String], Uint),
        ],
        ("contains" | "endsWith" | "startsWith", true) | ("matches", _) => {
            &[(&[String, String], Bool)]
        }
        (
            "getFullYear" | "getMonth" | "getDayOfYear" | "getDayOfMonth" | "getDate"
            | "getDayOfWeek",
            true,
        ) => OF_TIME,
        ("getHours" | "getMinutes" | "getSeconds" | "getMilliseconds", true) => OF_TIME_OR_DURATION,
        ("dyn" | "type" | op::NOT_STRICTLY_FALSE, false) => return Declared::Anything,
        // Declared, but not so called.
        (
            "contains" | "endsWith" | "startsWith" | "bool" | "bytes" | "double" | "duration"
            | "int" | "string" | "timestamp" | "uint" | "dyn" | "type",
            _,
        ) => &[],
        (name, false) if name.starts_with("get") && is_declared_member(name) => &[],
        (name, _) if name.starts_with(['_', '@', '!', '-']) => return Declared::Anything,
        _ => return Declared::Not,
    };
    Declared::Overloads(overloads)
}

fn is_declared_member(name: &str) -> bool {
    !matches!(declared(name, true), Declared::Not)
}

/// What the checker finds in `expression`, in no particular order.
pub(super) fn check(expression: &IdedExpr, source: &SourceInfo) -> Vec<Finding> {
    let mut checker = Checker {
        source,
        bound: Vec::new(),
        found: Vec::new(),
    };
    checker.infer(expression);
    checker.found
}

struct Checker<'a> {
    source: &'a SourceInfo,
    /// The variables of the macros round the place.
    bound: Vec<&'a str>,
    found: Vec<Finding>,
}

impl<'a> Checker<'a> {
    fn say(&mut self, id: u64, message: std::string::String) {
        let start = self.source.offset_for(id).map_or(0, |(start, _)| start) as usize;
        let before = self.source.source.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |rest| rest.chars().count());
        self.found.push(Finding {
            line,
            column,
            message,
        });
    }

    fn undeclared(&mut self, id: u64, name: &str) {
        self.say(
            id,
            format!("undeclared reference to '{name}' (in container '')"),
        );
    }

    fn all(&mut self, expressions: &'a [IdedExpr]) -> Vec<Option<Type>> {
        expressions.iter().map(|one| self.infer(one)).collect()
    }

    /// The type of the expression's value, if it is a simple one and known.
    fn infer(&mut self, expression: &'a IdedExpr) -> Option<Type> {
        match &expression.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Some(Bool),
                LiteralValue::Bytes(_) => Some(Bytes),
                LiteralValue::Double(_) => Some(Double),
                LiteralValue::Int(_) => Some(Int),
                LiteralValue::String(_) => Some(String),
                LiteralValue::UInt(_) => Some(Uint),
                LiteralValue::Null => None,
            },
            Expr::Ident(name) => {
                if !self.bound.contains(&name.as_str()) && !TYPES.contains(&name.as_str()) {
                    self.undeclared(expression.id, name);
                }
                None
            }
            Expr::Select(select) => {
                if !select.test && root(expression) == Some(MESSAGES) {
                    return None;
                }
                if let Some(type_) = self.infer(&select.operand) {
                    let name = type_.name();
                    self.say(
                        expression.id,
                        format!("type '{name}' does not support field selection"),
                    );
                }
                select.test.then_some(Bool)
            }
            Expr::Call(call) => self.call(expression.id, call),
            Expr::List(list) => {
                self.all(&list.elements);
                None
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    self.entry(&entry.expr);
                }
                None
            }
            Expr::Struct(message) => {
                if !message
                    .type_name
                    .trim_start_matches('.')
                    .starts_with("google.")
                {
                    self.undeclared(expression.id, &message.type_name);
                }
                for entry in &message.entries {
                    self.entry(&entry.expr);
                }
                None
            }
            Expr::Comprehension(fold) => {
                self.infer(&fold.iter_range);
                self.infer(&fold.accu_init);
                let outside = self.bound.len();
                self.bound.push(&fold.accu_var);
                let with_result = self.bound.len();
                self.bound.push(&fold.iter_var);
                self.bound.extend(fold.iter_var2.as_deref());
                self.infer(&fold.loop_cond);
                self.infer(&fold.loop_step);
                self.bound.truncate(with_result);
                self.infer(&fold.result);
                self.bound.truncate(outside);
                None
            }
            Expr::Unspecified => None,
        }
    }

    fn entry(&mut self, entry: &'a EntryExpr) {
        match entry {
            EntryExpr::MapEntry(entry) => {
                self.infer(&entry.key);
                self.infer(&entry.value);
            }
            EntryExpr::StructField(field) => {
                self.infer(&field.value);
            }
        }
    }

    fn call(&mut self, id: u64, call: &'a CallExpr) -> Option<Type> {
        let name = call.func_name.as_str();
        let mut types = Vec::new();
        if let Some(target) = &call.target {
            types.push(self.infer(target));
        }
        types.extend(self.all(&call.args));
        match name {
            operators::LOGICAL_AND | operators::LOGICAL_OR => {
                for (type_, argument) in types.iter().zip(&call.args) {
                    if let Some(type_) = type_.filter(|type_| *type_ != Bool) {
                        let found = type_.name();
                        self.say(
                            argument.id,
                            format!("expected type 'bool' but found '{found}'"),
                        );
                    }
                }
                Some(Bool)
            }
            operators::EQUALS | operators::NOT_EQUALS => {
                if let [Some(one), Some(other)] = types[..]
                    && one != other
                {
                    self.no_overload(id, name, &[one, other], false);
                }
                Some(Bool)
            }
            operators::CONDITIONAL => match types[..] {
                [Some(condition), Some(one), Some(other)] if condition != Bool || one != other => {
                    self.no_overload(id, name, &[condition, one, other], false);
                    None
                }
                [_, one, other] if one == other => one,
                _ => None,
            },
            _ => self.overloaded(id, name, call.target.is_some(), &types),
        }
    }

    fn overloaded(
        &mut self,
        id: u64,
        name: &str,
        member: bool,
        types: &[Option<Type>],
    ) -> Option<Type> {
        let overloads = match declared(name, member) {
            Declared::Overloads(overloads) => overloads,
            Declared::Anything => return None,
            Declared::Not => {
                self.undeclared(id, name);
                return None;
            }
        };
        let known: Option<Vec<Type>> = types.iter().copied().collect();
        let Some(known) = known else {
            // Whatever takes the arguments that are known gives the type, if all agree.
            let mut results = overloads
                .iter()
                .filter(|(wanted, _)| fits(wanted, types))
                .map(|(_, result)| *result);
            let first = results.next()?;
            return (matches!(first, Bool | Int) && results.all(|other| other == first))
                .then_some(first);
        };
        let found = overloads.iter().find(|(wanted, _)| *wanted == known);
        if found.is_none() {
            self.no_overload(id, name, &known, member);
        }
        found.map(|(_, result)| *result)
    }

    fn no_overload(&mut self, id: u64, name: &str, types: &[Type], member: bool) {
        let mut names: Vec<&str> = types.iter().map(|type_| type_.name()).collect();
        let receiver = if member && !names.is_empty() {
            format!("{}.", names.remove(0))
        } else {
            std::string::String::new()
        };
        let arguments = names.join(", ");
        self.say(
            id,
            format!("found no matching overload for '{name}' applied to '{receiver}({arguments})'"),
        );
    }
}

fn fits(wanted: &[Type], types: &[Option<Type>]) -> bool {
    wanted.len() == types.len()
        && wanted
            .iter()
            .zip(types)
            .all(|(wanted, given)| given.is_none_or(|given| given == *wanted))
}

/// The first name of a chain of selections.
fn root(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Ident(name) => Some(name),
        Expr::Select(select) => root(&select.operand),
        _ => None,
    }
}
