//! A file of the config repo.

use crate::desired::check::Checker;
use crate::desired::findings::MOST;
use crate::desired::merge;
use crate::desired::secrets::Fence;
use crate::resource;
use std::sync::Arc;

pub fn attempt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let fence = Fence::default();
    let checker = Checker { kinds: resource::ALL, fence: &fence };

    let report = checker.check(&Arc::from("a.yaml"), text);

    // To YAML, a carriage return alone ends a line as well.
    let lines = text.matches(['\n', '\r']).count() + usize::from(!text.ends_with(['\n', '\r']));
    let most = u32::try_from(lines.max(1)).unwrap();
    assert!(report.errors.iter().all(|error| error.place.line <= most), "{text:?}");
    let merged = merge::merge(resource::ALL, &[Arc::new(report)]);
    assert!(merged.errors.len() <= MOST);
    assert!(merged.errors.iter().chain(merged.warnings.iter()).all(|one| one.to_string().len() < 10_000));
}
