//! The token in a kubeconfig's `tokenFile`, read as client-go does it: without the white space around it (an editor ends
//! the file with a newline), anew when it changes, and as it was last while the file cannot be read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Request;
use hyper::header::{AUTHORIZATION, HeaderValue};
use kube::client::{AuthError, Body};
use rustix::fs::OFlags;

/// The largest file that is read. Tokens have a few kilobytes.
const LARGEST: u64 = 1 << 20;

/// A token that a file has.
#[derive(Clone)]
pub(super) struct TokenFile {
    path: PathBuf,
    last: Arc<Mutex<HeaderValue>>,
}

impl TokenFile {
    /// The token in the file at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(TokenFile { path: path.to_owned(), last: Arc::new(Mutex::new(read(path)?)) })
    }

    /// The request with the token.
    pub(super) fn sign(&self, mut request: Request<Body>) -> Result<Request<Body>, kube::Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.path) {
            Ok(token) => *last = token,
            // It may have been there for the start alone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(kube::Error::Auth(AuthError::ReadTokenFile(error, self.path.clone()))),
        }
        request.headers_mut().insert(AUTHORIZATION, last.clone());
        Ok(request)
    }
}

fn read(path: &Path) -> io::Result<HeaderValue> {
    // What is no file must not be waited for.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    let header = HeaderValue::try_from(format!("Bearer {token}"));
    let mut header = header.map_err(|_| io::Error::other("it has more than one line, or signs that no token has"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(token: &TokenFile) -> Result<String, String> {
        let request = token.sign(Request::new(Body::empty())).map_err(|error| format!("{error:?}"))?;
        Ok(request.headers()[AUTHORIZATION].to_str().unwrap().to_owned())
    }

    #[test]
    fn white_space_around_it_is_none_of_it_and_the_newest_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for text in ["abc", "abc\n", "  abc\r\n\n", "abc \t"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(signed(&TokenFile::open(&path).unwrap()).unwrap(), "Bearer abc", "{text:?}");
        }
        let token = TokenFile::open(&path).unwrap();
        std::fs::write(&path, "def\n").unwrap();
        assert_eq!(signed(&token).unwrap(), "Bearer def");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(signed(&token).unwrap(), "Bearer def");
        std::fs::write(&path, " \n").unwrap();
        assert!(signed(&token).unwrap_err().contains("it is empty"));
    }

    #[test]
    fn what_is_no_token_is_refused_and_waited_for_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let why = |path: &Path| TokenFile::open(path).err().unwrap().to_string();
        std::fs::write(&path, "two\nlines\n").unwrap();
        assert_eq!(why(&path), "it has more than one line, or signs that no token has");
        assert_eq!(why(folder.path()), "it is no file");
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(why(&fifo), "it is no file");
    }
}
