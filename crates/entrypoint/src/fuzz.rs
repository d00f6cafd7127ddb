//! What the fuzz target of this crate runs: every decoder, on the same bytes.

use alloc::format;
use alloc::vec::Vec;

use crate::credentials::Wanted;
use crate::flags::Flags;
use crate::json_value::Value;
use crate::param_value::ParamValue;
use crate::path::Path;
use crate::{base64_text, cel, duration, termination, when};

/// Secrets with `data` as every file lie under `root`, in `creds-secrets/s`.
pub(crate) fn all(data: &[u8], root: &Path) {
    let arguments: Vec<Vec<u8>> = data.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let _ = Flags::parse(&arguments);
    let _ = termination::parse(data);
    let _ = Value::parse(data);
    let _ = ParamValue::parse(data);
    if let Ok(decoded) = base64_text::decode(data) {
        let encoded = base64_text::encode(&decoded);
        assert_eq!(base64_text::decode(encoded.as_bytes()), Ok(decoded));
    }
    let _ = base64_text::decode_unpadded(data);
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    let _ = duration::parse(text);
    let _ = when::parse(text).map(|when| when::allow(&when));
    let _ = cel::evaluate(text);
    let mut wanted = Wanted::default();
    let url = text.lines().next().unwrap_or_default();
    let named = format!("s={url}");
    for (kind, value) in [
        ("docker-config", "s"),
        ("docker-cfg", "s"),
        ("basic-docker", &named),
        ("basic-git", &named),
        ("ssh-git", &named),
    ] {
        let _ = wanted.add(root, kind, value);
    }
    let creds = root.join("creds");
    let _ = wanted.docker.write(root, &creds);
    let _ = wanted.basic.write(&creds);
    let _ = wanted.ssh.write(&creds);
}
