//! Masking as a whole: values in, text through, nothing of them out.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::forms::{self, Patterns};
use super::{Masker, Search};
use crate::base64_text;

fn search(values: &[&str]) -> Rc<Search> {
    Rc::new(Search::of_values(
        values.iter().map(|value| value.as_bytes()),
    ))
}

/// What leaves, written part by part; `None` is silence.
fn written(search: &Rc<Search>, parts: &[Option<&[u8]>]) -> Vec<Vec<u8>> {
    let mut masker = Masker::new(Rc::clone(search));
    let mut out = Vec::new();
    for part in parts {
        let mut rest = part.unwrap_or_default();
        let mut left = Vec::new();
        if part.is_none() {
            masker.flush();
            take(&mut masker, &mut left);
        }
        while !rest.is_empty() {
            let room = masker.room();
            let length = room.len().min(rest.len());
            room[..length].copy_from_slice(&rest[..length]);
            assert_eq!(masker.read(length), &rest[..length]);
            rest = &rest[length..];
            take(&mut masker, &mut left);
        }
        out.push(left);
    }
    let mut left = Vec::new();
    masker.flush();
    take(&mut masker, &mut left);
    out.push(left);
    out
}

/// As a full pipe takes it: little by little.
fn take(masker: &mut Masker, out: &mut Vec<u8>) {
    while !masker.leaving().is_empty() {
        out.push(masker.leaving()[0]);
        masker.left(1);
    }
}

fn masked(values: &[&str], text: &str) -> String {
    let out = written(&search(values), &[Some(text.as_bytes())]).concat();
    String::from_utf8(out).unwrap()
}

#[test]
fn values_are_replaced_and_nothing_else() {
    for (values, text, expected) in [
        (&["hunter2!"][..], "a hunter2! b", "a *** b"),
        (&["hunter2!"], "hunter2!hunter2!\nhunter2", "***\nhunter2"),
        (&["hunter2!"], "nothing", "nothing"),
        // Too short or too common to be looked for.
        (
            &["a", "abc", "true", "None", "------", ""],
            "a abc true None ------",
            "a abc true None ------",
        ),
        (&["  padded-value\n"], "x padded-value y", "x *** y"),
        // What overlaps is one; the longest goes first.
        (&["abcdefgh", "efghijkl"], "abcdefghijkl.", "***."),
        (
            &["pass-word", "pass-word-and-more"],
            "pass-word-and-more, pass-word-and.",
            "***, ***-and.",
        ),
        (&["abcabcabd"], "abcabcabcabd", "abc***"),
        (&["aXaXaX"], "aXaXaXaXaXaXa", "***a"),
    ] {
        assert_eq!(masked(values, text), expected, "{values:?} {text}");
    }
}

#[test]
fn encodings_are_known_wherever_the_value_lies_in_them() {
    let secret = "p/ss w+rd&'x?";
    for before in ["", "u", "us", "user:"] {
        for after in ["", "\n", "@", "@host"] {
            let text = format!("{before}{secret}{after}");
            for text in [
                base64_text::encode(text.as_bytes()),
                base64_text::encode(text.as_bytes())
                    .replace('+', "-")
                    .replace('/', "_"),
            ] {
                let out = masked(&[secret], &format!("<{text}>"));
                // At most a letter on either side is partly the value's.
                let around = (before.len() + after.len()) * 4 / 3 + 12;
                assert!(out.contains("***") && out.len() <= around, "{text}: {out}");
            }
        }
    }
    for text in [
        "p%2Fss%20w%2Brd%26%27x%3F",
        "p%2fss%20w%2brd%26%27x%3f",
        "p%2Fss+w%2Brd%26%27x%3F",
        "p%2Fss%20w%2Brd%26'x%3F",
        "p/ss%20w%2Brd%26%27x%3F",
        "p%2Fss%20w+rd&%27x%3F",
        r"p/ss w+rd\u0026'x?",
        r"p/ss w+rd&'\''x?",
    ] {
        assert_eq!(masked(&[secret], text), "***", "{text}");
    }
}

#[test]
fn long_values_are_known_in_wrapped_base64() {
    let secret: String = (0..300)
        .map(|i| char::from(b'!' + (i * 7 % 90) as u8))
        .collect();
    for end in ["", "\n"] {
        let encoded = base64_text::encode(format!("{secret}{end}").as_bytes());
        for width in [76, 64] {
            let lines: Vec<String> = encoded
                .as_bytes()
                .chunks(width)
                .map(|line| String::from_utf8(line.to_vec()).unwrap())
                .collect();
            let out = masked(&[&secret], &lines.join("\n"));
            assert!(
                out.lines().all(|line| line.trim_end_matches('=') == "***"),
                "{out}"
            );
        }
        assert_eq!(masked(&[&secret], &encoded).trim_end_matches('='), "***");
    }
    // Longer than the longest piece that is looked for.
    let long = secret.repeat(20);
    assert_eq!(masked(&[&long], &format!("a {long} b")), "a *** b");
}

#[test]
fn lines_and_parts_of_values_are_secret_by_themselves() {
    let pem = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nshort\nq83vEjRWeJCrze8=\n-----END KEY-----\n";
    let login = base64_text::encode(b"robot:s3cr3t-pw");
    let docker = format!(
        "{{\n  \"auths\": {{\"registry.example.com\": {{\"username\": \"robot\", \"password\": \"s3cr3t-pw\", \"auth\": \"{login}\"}}}}\n}}"
    );
    let only_auth = format!("{{\"auths\":{{\"r\":{{\"auth\":\"{login}\"}}}}}}");
    for (value, text, expected) in [
        (
            pem,
            "x MIIEpAIBAAKCAQEA\nq83vEjRWeJCrze8= short",
            "x ***\n*** short",
        ),
        (pem, r"MIIEpAIBAAKCAQEA\nshort", r"***\nshort"),
        (pem, "-----BEGIN KEY-----", "-----BEGIN KEY-----"),
        (
            &docker,
            "registry.example.com robot s3cr3t-pw",
            "registry.example.com robot ***",
        ),
        (&docker, &login, "***"),
        (&only_auth, "robot:s3cr3t-pw and s3cr3t-pw", "*** and ***"),
        (
            "{\"type\":\"service\",\"private_key\":\"-----BEGIN-----\\nMIIEvQIBADANBg\\n-----END-----\"}",
            "MIIEvQIBADANBg",
            "***",
        ),
        (
            "A=1\nexport DB_PASSWORD=\"swordfish\"\n",
            "it is swordfish",
            "it is ***",
        ),
        (
            "postgres://app:p%40ss@db:5432/x",
            "p%40ss p@ss app",
            "*** *** app",
        ),
        ("https://ghp_token@host/x", "ghp_token", "***"),
    ] {
        assert_eq!(masked(&[value], text), expected, "{value} {text}");
    }
}

#[test]
fn writes_may_end_anywhere() {
    let long: String = (0..60)
        .map(|i| char::from(b'A' + (i * 11 % 26) as u8))
        .collect();
    let values = ["hunter2!", "ter2!tail", &long];
    let text = format!("begin hunter2! x{long} hunter2!tail hunhunter2!\n{long}{long} h");
    let expected = "begin *** x*** *** hun***\n*** h";
    let search = search(&values);
    let bytes = text.as_bytes();
    for size in 1..bytes.len() {
        let parts: Vec<Option<&[u8]>> = bytes.chunks(size).map(Some).collect();
        let out = written(&search, &parts).concat();
        assert_eq!(
            String::from_utf8_lossy(&out),
            expected,
            "in parts of {size}"
        );
    }
}

#[test]
fn only_what_might_go_on_as_a_secret_is_held_back() {
    let search = search(&["swordfish"]);
    let out = written(&search, &[Some(b"name? "), Some(b"passwords"), Some(b"!")]);
    assert_eq!(out[..3], [&b"name? "[..], b"password", b"s!"]);
}

#[test]
fn silence_tells_little_of_a_secret_and_never_the_rest() {
    let search = search(&["swordfish-and-chips"]);
    let text = |parts: &[Option<&[u8]>]| -> Vec<String> {
        let out = written(&search, parts).into_iter();
        out.map(|part| String::from_utf8(part).unwrap()).collect()
    };
    // Little of it: a prompt may end so.
    assert_eq!(
        text(&[Some(b"$ sword"), None, Some(b"fish-and-chips\n")]),
        ["$ ", "sword", "***\n", ""]
    );
    assert_eq!(
        text(&[Some(b"$ sword"), None, Some(b"play")]),
        ["$ ", "sword", "play", ""]
    );
    // Most of it.
    assert_eq!(
        text(&[Some(b"$ swordfish-and"), None, Some(b"-chips\n")]),
        ["$ ", "***", "\n", ""]
    );
    assert_eq!(
        text(&[Some(b"$ swordfish-and"), None, Some(b"-fries\n")]),
        ["$ ", "***", "-fries\n", ""]
    );
    // Silence again and again.
    assert_eq!(
        text(&[
            Some(b"sw"),
            None,
            Some(b"or"),
            None,
            Some(b"dfish-and"),
            None,
            Some(b"-chips."),
            None
        ]),
        ["", "sw", "", "or", "", "***", ".", "", ""]
    );
    // The end is as silence.
    assert_eq!(text(&[Some(b"a swordfish-and-chip")]), ["a ", "***"]);
    assert_eq!(text(&[Some(b"a sword")]), ["a ", "sword"]);
}

/// The same by the simplest means: every place of every pattern is marked.
fn plainly(patterns: &Patterns, text: &[u8]) -> Vec<u8> {
    let mut marked = vec![false; text.len()];
    for pattern in patterns {
        for (at, window) in text.windows(pattern.len()).enumerate() {
            if window == pattern.as_slice() {
                marked[at..at + pattern.len()].fill(true);
            }
        }
    }
    let mut out = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        match marked[at] {
            false => out.push(*byte),
            true if at > 0 && marked[at - 1] => {}
            true => out.extend_from_slice(b"***"),
        }
    }
    out
}

#[test]
fn the_search_finds_what_the_simplest_search_finds() {
    // Few letters, so that patterns overlap, repeat and begin alike.
    let mut state = 42u64;
    let mut next = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for round in 0..300 {
        let letters = 2 + next(3);
        let mut patterns = Patterns::new();
        let mut text = Vec::new();
        let mut random =
            |length: u64| -> Vec<u8> { (0..length).map(|_| b'a' + next(letters) as u8).collect() };
        for length in [4, 5, 9, 22, 23, 24, 40] {
            patterns.insert(random(length + round % 3));
        }
        for pattern in &patterns {
            text.extend(random(1 + round % 17));
            text.extend_from_slice(pattern);
        }
        // At the end lies no half of one.
        text.extend_from_slice(b"....");
        let expected = plainly(&patterns, &text);
        let search = Rc::new(Search::new(patterns));
        for size in [1, 7, 16, 64, text.len()] {
            let parts: Vec<Option<&[u8]>> = text.chunks(size).map(Some).collect();
            let out = written(&search, &parts).concat();
            assert_eq!(
                String::from_utf8_lossy(&out),
                String::from_utf8_lossy(&expected),
                "round {round}, in parts of {size}: {}",
                String::from_utf8_lossy(&text)
            );
        }
    }
}

#[test]
fn a_message_is_masked_as_a_whole() {
    let search = search(&["hunter2!"]);
    let message = "exec: \"hunter2!\": executable file not found".to_owned();
    let expected = message.replace("hunter2!", "***");
    assert_eq!(super::text(&search, &message), expected);
    assert_eq!(super::text(&search, ""), "".to_string());
    let mut patterns = Patterns::new();
    forms::add(&mut patterns, b"");
    assert!(patterns.is_empty());
}
