//! `postern cert --self-signed`: enough TLS for a first start.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::Failure;
use super::cli::CertOptions;
use crate::net::authority::Authority;

/// Writes an authority and a certificate, and says what to do with them.
///
/// # Errors
/// If a name cannot stand in a certificate, or a file exists or cannot be
/// written.
pub fn run(options: &CertOptions) -> Result<(), Failure> {
    let directory = &options.self_signed;
    let names: Vec<&str> = options.names.iter().map(String::as_str).collect();
    write(directory, "Postern self-signed authority", &names)?;
    println!("{}: for clients, as sslrootcert", directory.join("ca.crt").display());
    println!("{}: as [tls] certificate", directory.join("server.crt").display());
    println!("{}: as [tls] key", directory.join("server.key").display());
    Ok(())
}

/// Writes `ca.crt`, `server.crt` and `server.key` into a directory.
///
/// # Errors
/// As [`run`].
pub fn write(directory: &Path, authority: &str, names: &[&str]) -> Result<(), Failure> {
    let invalid = |error: rcgen::Error| Failure::new(format!("certificate: {error}"));
    let authority = Authority::new(authority).map_err(invalid)?;
    let issued = authority.issue(names).map_err(invalid)?;
    fs::create_dir_all(directory)
        .map_err(|error| Failure::new(format!("{}: {error}", directory.display())))?;
    write_new(&directory.join("ca.crt"), authority.certificate(), 0o644)?;
    write_new(&directory.join("server.crt"), &issued.certificate, 0o644)?;
    write_new(&directory.join("server.key"), &issued.key, 0o600)
}

/// Never over a file that exists: it may be the key of a running server.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_private_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "test", &["localhost", "*.db.example.com", "::1"]).unwrap();
        let mode = fs::metadata(dir.path().join("server.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = write(dir.path(), "test", &["localhost"]).unwrap_err();
        assert!(again.to_string().contains("ca.crt"));
    }
}
