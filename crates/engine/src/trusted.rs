//! Trusted resources: which policies are about a remote object, and what comes of them (T-393 to T-396, P-361 to P-368).
//!
//! Keys and signatures are checked elsewhere; here is only what follows from it.

use regex::Regex;
use tektite_api::v1alpha1::VerificationPolicy;

use crate::decision::Verification;

/// The remote object, in texts.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its own namespace, as a rule empty.
    pub namespace: &'a str,
    /// Where it came from; empty if that is not known.
    pub source: &'a str,
}

/// Whether an object has a signature that a policy takes.
///
/// An error says why the policy's keys cannot be had.
pub type Verdict = Result<bool, String>;

/// The policies of the run's namespace that are about the object, in the order in which they are evaluated: those that
/// must pass first. None if no policy is.
///
/// # Errors
/// The text for the run, if a pattern is no regular expression.
pub fn matching<'p>(
    subject: Subject<'_>,
    policies: &'p [VerificationPolicy],
) -> Result<Vec<&'p VerificationPolicy>, String> {
    let source = subject.source.trim();
    let source = source.strip_prefix("git+").unwrap_or(source);
    let mut found = Vec::new();
    for policy in policies {
        for resource in &policy.spec.resources {
            let pattern = Regex::new(&anchored(&resource.pattern)).map_err(|error| {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default();
                format!(
                    "failed to get matched policies: error parsing regexp: {why}: regex failed to match"
                )
            })?;
            if pattern.is_match(source) {
                found.push(policy);
                break;
            }
        }
    }
    found.sort_by_key(|policy| warns(policy));
    Ok(found)
}

/// A pattern that matches the whole source and not a part of it (P-362).
fn anchored(pattern: &str) -> String {
    let (start, end) = (pattern.starts_with('^'), pattern.ends_with('$'));
    if start && end {
        return pattern.to_owned();
    }
    let rest = pattern.strip_prefix('^').unwrap_or(pattern);
    let rest = rest.strip_suffix('$').unwrap_or(rest);
    format!("^(?:{rest})$")
}

fn warns(policy: &VerificationPolicy) -> bool {
    policy.spec.mode == "warn"
}

/// What it means that no policy is about the object, by the flag `trusted-resources-verification-no-match-policy` (P-363).
///
/// # Errors
/// The text for the run, if the flag says `fail`.
pub fn unmatched(subject: Subject<'_>, flag: &str) -> Result<Verification, String> {
    let text = format!(
        "failed to get matched policies: no policies are matched: no matching policies are found for resource: {} against source: {}",
        subject.name, subject.source
    );
    match flag {
        "ignore" => Ok(Verification::Skipped),
        "warn" => Ok(Verification::Warned(text)),
        _ => Err(text),
    }
}

/// What the [matching](matching) policies come to, in their order; the first that fails decides (P-364).
///
/// # Errors
/// The text for the run, if one that must pass does not.
pub fn judge<'p>(
    subject: Subject<'_>,
    verdicts: impl IntoIterator<Item = (&'p VerificationPolicy, Verdict)>,
) -> Result<Verification, String> {
    let Subject {
        name, namespace, ..
    } = subject;
    for (policy, verdict) in verdicts {
        let failed = format!(
            "resource verification failed: resource {name} in namespace {namespace} fails verification"
        );
        match (verdict, warns(policy)) {
            (Ok(true), _) => {}
            (Ok(false), false) => return Err(failed),
            (Ok(false), true) => return Ok(Verification::Warned(failed)),
            (Err(error), false) => {
                return Err(format!("failed to get verifiers from policy: {error}"));
            }
            (Err(error), true) => {
                return Ok(Verification::Warned(format!(
                    "failed to get verifiers for resource {name} from namespace {namespace}: {error}"
                )));
            }
        }
    }
    Ok(Verification::Passed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SUBJECT: Subject<'_> = Subject {
        name: "t",
        namespace: "",
        source: "git+https://github.com/tektoncd/catalog.git",
    };

    fn policy(name: &str, patterns: &[&str], mode: &str) -> VerificationPolicy {
        let resources: Vec<_> = patterns.iter().map(|p| json!({"pattern": p})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"resources": resources, "authorities": [], "mode": mode},
        }))
        .unwrap()
    }

    /// T-393, P-362
    #[test]
    fn patterns_match_the_whole_source_without_its_prefix() {
        for (pattern, matches) in [
            ("https://github.com/tektoncd/catalog.git", true),
            ("^https://github.com/tektoncd/.*", true),
            (".*", true),
            (".*catalog.git$", true),
            ("https://github.com/tektoncd", false),
            ("catalog", false),
            ("git\\+https://.*", false),
            // Each alternative is anchored, not only the outermost.
            (
                "https://github.com/other|https://github.com/tektoncd/cat",
                false,
            ),
        ] {
            let policies = [policy("p", &["never", pattern], "enforce")];
            let found = matching(SUBJECT, &policies).unwrap();
            assert_eq!(!found.is_empty(), matches, "{pattern}");
        }
        let broken = [policy("p", &["("], "enforce")];
        let error = matching(SUBJECT, &broken).unwrap_err();
        assert!(
            error.starts_with("failed to get matched policies: error parsing regexp: ")
                && error.ends_with(": regex failed to match"),
            "{error}"
        );
    }

    /// T-395, P-363
    #[test]
    fn the_flag_says_what_no_match_means() {
        let text = "failed to get matched policies: no policies are matched: no matching policies are found for resource: t against source: git+https://github.com/tektoncd/catalog.git";
        for (flag, expected) in [
            ("ignore", Ok(Verification::Skipped)),
            ("warn", Ok(Verification::Warned(text.into()))),
            ("fail", Err(text.to_owned())),
        ] {
            assert_eq!(unmatched(SUBJECT, flag), expected, "{flag}");
        }
    }

    /// T-395, P-364
    #[test]
    fn enforcing_policies_come_first_and_all_must_pass() {
        let policies = [
            policy("w", &[".*"], "warn"),
            policy("e", &[".*"], "enforce"),
            policy("d", &[".*"], ""),
        ];
        let found = matching(SUBJECT, &policies).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|policy| policy.metadata.name.clone().unwrap_or_default())
            .collect();
        assert_eq!(names, ["e", "d", "w"]);
        let fails = "resource verification failed: resource t in namespace  fails verification";
        let no_key = || Err("no key".to_owned());
        for (verdicts, expected) in [
            ([Ok(true), Ok(true), Ok(true)], Ok(Verification::Passed)),
            ([Ok(true), Ok(false), Ok(true)], Err(fails.to_owned())),
            ([Ok(false), no_key(), no_key()], Err(fails.to_owned())),
            (
                [no_key(), Ok(true), Ok(true)],
                Err("failed to get verifiers from policy: no key".into()),
            ),
            (
                [Ok(true), Ok(true), Ok(false)],
                Ok(Verification::Warned(fails.into())),
            ),
            (
                [Ok(true), Ok(true), no_key()],
                Ok(Verification::Warned(
                    "failed to get verifiers for resource t from namespace : no key".into(),
                )),
            ),
        ] {
            let pairs = found.iter().copied().zip(verdicts.clone());
            assert_eq!(judge(SUBJECT, pairs), expected, "{verdicts:?}");
        }
    }
}
