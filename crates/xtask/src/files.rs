//! The project's own text files, without what git, cargo and a running server leave behind.

use std::path::{Path, PathBuf};

/// Folders that are not the project's text.
const SKIPPED: &[&str] = &["target", ".git", "milena-data", "node_modules"];
/// Endings of files that are text of ours.
const TEXT: &[&str] = &[
    "rs", "toml", "md", "sh", "java", "py", "tsv", "txt", "yml", "",
];

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// A text file: its path from the root with `/`, and what is in it.
pub struct TextFile {
    pub path: String,
    pub text: String,
}

impl TextFile {
    /// The folder below `crates/` that it lies in.
    pub fn krate(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Every text file, ordered by path.
pub fn all() -> Result<Vec<TextFile>, String> {
    let root = root();
    let mut files = Vec::new();
    walk(&root, &root, &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<TextFile>) -> Result<(), String> {
    let shown = |error| format!("{}: {error}", dir.display());
    for entry in std::fs::read_dir(dir).map_err(shown)? {
        let path = entry.map_err(shown)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_symlink() || SKIPPED.contains(&name.as_ref()) {
            continue;
        }
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            walk(root, &path, files)?;
        } else if TEXT.contains(&ending.as_ref())
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            let path = path.strip_prefix(root).unwrap_or(&path);
            let path = path.to_string_lossy().replace('\\', "/");
            files.push(TextFile { path, text });
        }
    }
    Ok(())
}

/// Reads a file by its path from the root.
pub fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))
}

/// Writes a file by its path from the root.
pub fn write(path: &str, text: &str) -> Result<(), String> {
    std::fs::write(root().join(path), text).map_err(|error| format!("{path}: {error}"))
}
