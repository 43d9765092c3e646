//! The keys that clients were given to cancel their queries (decision 37).
//!
//! A key is found by the process id it was sent with and compared in constant
//! time; it is gone when its session's [`Registration`] is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time;

use crate::domain::Secret;

/// All live keys; `T` says what a cancel does.
#[derive(Debug)]
pub struct CancelKeys<T> {
    by_process: Arc<Mutex<ByProcess<T>>>,
}

type ByProcess<T> = HashMap<u32, Vec<Entry<T>>>;

#[derive(Debug)]
struct Entry<T> {
    key: Secret<Vec<u8>>,
    target: Arc<T>,
}

/// A session's key; dropping it makes the key worthless.
#[derive(Debug)]
#[must_use]
pub struct Registration<T> {
    by_process: Arc<Mutex<ByProcess<T>>>,
    process_id: u32,
    target: Arc<T>,
}

impl<T> Default for CancelKeys<T> {
    fn default() -> Self {
        Self { by_process: Arc::default() }
    }
}

impl<T> Clone for CancelKeys<T> {
    fn clone(&self) -> Self {
        Self { by_process: Arc::clone(&self.by_process) }
    }
}

impl<T> CancelKeys<T> {
    /// Makes a key valid. Process ids of different servers may be equal; then
    /// the keys tell the sessions apart.
    pub fn register(&self, process_id: u32, key: &[u8], target: Arc<T>) -> Registration<T> {
        let entry = Entry { key: Secret::new(key.to_vec()), target: Arc::clone(&target) };
        // Hardly ever have two clients the same process id.
        let mut by_process = lock(&self.by_process);
        by_process.entry(process_id).or_insert_with(|| Vec::with_capacity(1)).push(entry);
        drop(by_process);
        Registration { by_process: Arc::clone(&self.by_process), process_id, target }
    }

    /// What this key cancels.
    #[must_use]
    pub fn find(&self, process_id: u32, key: &[u8]) -> Option<Arc<T>> {
        let by_process = lock(&self.by_process);
        let mut found = None;
        for entry in by_process.get(&process_id)? {
            if constant_time::verify_slices_are_equal(entry.key.expose(), key).is_ok() {
                found = Some(Arc::clone(&entry.target));
            }
        }
        found
    }

    /// Keys that are valid now.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.by_process).values().map(Vec::len).sum()
    }

    /// Whether no key is valid now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Registration<T> {
    /// What the key cancels.
    #[must_use]
    pub fn target(&self) -> &T {
        &self.target
    }
}

impl<T> Drop for Registration<T> {
    fn drop(&mut self) {
        let mut by_process = lock(&self.by_process);
        if let Some(entries) = by_process.get_mut(&self.process_id) {
            entries.retain(|entry| !Arc::ptr_eq(&entry.target, &self.target));
            if entries.is_empty() {
                by_process.remove(&self.process_id);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b01_a_key_finds_its_own_session_and_dies_with_it() {
        let keys = CancelKeys::default();
        let first = keys.register(7, b"aaaa", Arc::new("first"));
        let second = keys.register(7, b"bbbb", Arc::new("second"));
        assert_eq!(keys.find(7, b"aaaa").as_deref(), Some(&"first"));
        assert_eq!(keys.find(7, b"bbbb").as_deref(), Some(&"second"));
        for (process_id, key) in [(7, &b"cccc"[..]), (8, b"aaaa"), (7, b""), (7, b"aaaaa")] {
            assert_eq!(keys.find(process_id, key), None);
        }
        drop(first);
        assert_eq!(keys.find(7, b"aaaa"), None);
        assert_eq!(keys.find(7, b"bbbb").as_deref(), Some(&"second"));
        drop(second);
        assert!(keys.is_empty());
    }
}
