//! The settings.

use crate::config::Config;
use crate::config::Overrides;
use std::fs;

pub fn attempt(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    fs::write(&path, bytes).unwrap();
    let overrides = Overrides { config: Some(path.to_str().unwrap().to_owned()), ..Overrides::default() };

    if let Err(invalid) = Config::load(&overrides) {
        assert!(!invalid.0.is_empty());
    }
}
