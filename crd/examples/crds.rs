//! Writes the definitions of all kinds into a folder, one file each: `make crds`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io};

use certmon_crd::{crd_yaml, crds};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        return fail("usage: crds FOLDER");
    };
    match write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{}: {error}", folder.display())),
    }
}

fn write(folder: &PathBuf) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for crd in crds() {
        let file = folder.join(format!("{}.yaml", crd.spec.names.plural));
        fs::write(file, crd_yaml(&crd))?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a command that people start")]
fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}
