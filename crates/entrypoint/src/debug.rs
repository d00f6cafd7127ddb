//! Breakpoints: a person in the container decides whether the step goes on.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use crate::flags::Flags;
use crate::lifecycle::Failure;
use crate::log::log;
use crate::path::Path;
use crate::script::write_executable;
use crate::system::{Result as IoResult, clock, fs};
use crate::wait::{Awaited, Seen};

/// Waits for word before the step is run (T-334, T-335).
pub(crate) fn wait_before_step(flags: &Flags) -> Result<(), Failure> {
    log(
        "debug before step breakpoint has taken effect, waiting for user's decision:\n\
         1) continue, use cmd: /tekton/debug/scripts/debug-beforestep-continue\n\
         2) fail-continue, use cmd: /tekton/debug/scripts/debug-beforestep-fail-continue",
    );
    let file = beside_post_file(flags, ".beforestepexit");
    match Awaited::new(&file, false).wait() {
        Ok(Seen::File) => Ok(()),
        _ => {
            log(&format!(
                "error occurred while waiting for {file} : before step breakpoint error file, user decided to skip the current step execution"
            ));
            Err(Failure::BeforeStep)
        }
    }
}

/// Keeps a failed step's container until somebody says how it shall end (T-332, T-335).
pub(crate) fn wait_after_failure(flags: &Flags) -> u8 {
    log(
        "debug onFailure breakpoint has taken effect, waiting for user's decision:\n\
         1) continue, use cmd: /tekton/debug/scripts/debug-continue\n\
         2) fail-continue, use cmd: /tekton/debug/scripts/debug-fail-continue",
    );
    let file = beside_post_file(flags, ".breakpointexit");
    if let Err(error) = Awaited::new(&file, false).wait() {
        log(&format!(
            "error occurred while waiting for {file} : {error}"
        ));
    }
    // The shell creates the file before it writes the number.
    if fs::metadata(&file).is_ok_and(|meta| meta.length == 0) {
        clock::sleep(Duration::from_secs(1));
    }
    // What cannot be read lets the next steps run.
    let text = fs::read(&file).ok();
    let text = text
        .and_then(|text| String::from_utf8(text).ok())
        .unwrap_or_default();
    let code = text.strip_suffix('\n').unwrap_or(&text);
    log(&format!("Breakpoint exiting with exit code {code}"));
    let code: i32 = code.parse().unwrap_or_else(|error| {
        log(&format!(
            "error occurred while reading breakpoint exit code : {error}"
        ));
        0
    });
    code as u8
}

fn beside_post_file(flags: &Flags, suffix: &str) -> Path {
    flags.post_file.clone().unwrap_or_default().with(suffix)
}

/// Writes the four scripts with which a person decides (T-331).
pub(crate) fn place_scripts(flags: &Flags, steps: usize) -> IoResult<()> {
    let dir = flags.root.join("debug/scripts");
    fs::create_dir_all(&dir)?;
    let scripts = [
        ("debug-continue", "out", "0", "out.breakpointexit"),
        ("debug-fail-continue", "out.err", "1", "out.breakpointexit"),
        ("debug-beforestep-continue", "", "0", "out.beforestepexit"),
        (
            "debug-beforestep-fail-continue",
            "",
            "1",
            "out.beforestepexit.err",
        ),
    ];
    for (name, touched, code, written) in scripts {
        write_executable(
            &dir.join(name),
            decision(&flags.root, steps, touched, code, written).as_bytes(),
        )?;
    }
    Ok(())
}

/// A script that finds the step whose container it runs in: the one whose debug info directory is mounted here.
fn decision(root: &Path, steps: usize, touched: &str, code: &str, written: &str) -> String {
    let touch = if touched.is_empty() {
        String::new()
    } else {
        format!("touch \"$run/{touched}\"\n")
    };
    format!(
        "#!/bin/sh\nset -e\n\
         step=0\n\
         while [ \"$step\" -lt {steps} ] && [ ! -d \"{root}/debug/info/$step\" ]; do step=$((step + 1)); done\n\
         if [ \"$step\" -ge {steps} ]; then echo 'this container is no step' >&2; exit 1; fi\n\
         run={root}/run/$step\n\
         echo {code} > \"$run/{written}\"\n\
         {touch}\
         echo \"Executing step $step...\"\n"
    )
}
