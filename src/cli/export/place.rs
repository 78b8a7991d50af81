//! Where an export is written: beside nothing that would be read along with it, each file whole or not at all.

use anyhow::Context;
use anyhow::bail;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use tempfile::NamedTempFile;

// More than a message can list.
const SHOWN: usize = 5;

/// Errs where the directory holds files that a load would read: the export and they would be one desired state.
pub fn refuse_to_mix(dir: &Path, force: bool) -> anyhow::Result<()> {
    if force {
        return Ok(());
    }
    let mut found = Vec::new();
    collect(dir, &mut found).with_context(|| format!("cannot look into {}", dir.display()))?;
    if found.is_empty() {
        return Ok(());
    }
    let more = if found.len() > SHOWN { ", ..." } else { "" };
    let shown: Vec<String> = found.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    bail!(
        "{} holds YAML already ({}{more}); give an empty directory, or --force to overwrite what the export names alike",
        dir.display(),
        shown.join(", ")
    )
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_hidden {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// Writes the files: all of them beside their places first, then each in one step.
pub fn write(dir: &Path, files: &BTreeMap<String, String>, force: bool) -> anyhow::Result<()> {
    let mut ready = Vec::with_capacity(files.len());
    for (name, text) in files {
        let path = dir.join(name);
        // Through a link, and with the rights that are there.
        let path = path.canonicalize().unwrap_or(path);
        let folder = path.parent().unwrap_or(dir);
        let cannot = || format!("cannot write {}", path.display());
        fs::create_dir_all(folder).with_context(cannot)?;
        let mut file = NamedTempFile::with_prefix_in(".export-", folder).with_context(cannot)?;
        file.write_all(text.as_bytes()).with_context(cannot)?;
        ready.push((file, path));
    }
    for (file, path) in ready {
        let rights = fs::metadata(&path).map(|there| there.permissions());
        let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let done = if force || is_ours { file.persist(&path) } else { file.persist_noclobber(&path) };
        let file = done.map_err(|error| error.error).with_context(|| format!("cannot write {}", path.display()))?;
        let done = rights.map_or_else(|_| readable(&file), |rights| file.set_permissions(rights));
        done.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A temporary file is for its owner alone; these are for everybody who may read the directory.
fn readable(file: &fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}
