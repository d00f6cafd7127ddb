//! "Did you mean …?": the known name nearest to what was written.

/// The nearest of `known`, if it is near enough to be a slip of the pen.
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = written.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(written.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean "x"?`, or the names there are, or that there are none.
pub fn did_you_mean<'k>(
    written: &str,
    what: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(near) = nearest(written, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    match known.len() {
        0 => format!("{what}: none"),
        1..=12 => format!("{what}: {}", known.join(", ")),
        _ => format!("{what}: {}, …", known[..12].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["image", "imagePullPolicy", "script", "command", "args"];
        assert_eq!(nearest("imge", known), Some("image"));
        assert_eq!(nearest("comand", known), Some("command"));
        assert_eq!(nearest("Script", known), Some("script"));
        assert_eq!(nearest("volumes", known), None);
        assert_eq!(did_you_mean("zzz", "fields", ["a", "b"]), "fields: a, b");
    }
}
