//! A range of a file on its way to a client.
//!
//! There are three ways to its bytes: the kernel sends them from [`FileRange::file`]; before that,
//! [`FileRange::warm`] has the kernel read them if the disk would be waited for; and
//! [`FileRange::read`] copies them. Made by `body` and `large`, sent by `http`.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;

use crate::runtime::BlockingPool;

/// Bytes of a file that can be read now.
#[derive(Clone)]
pub struct FileRange {
    file: Arc<File>,
    disk: BlockingPool,
    /// The offset of the first byte.
    pub first: u64,
    /// The offset past the last.
    pub end: u64,
}

impl FileRange {
    pub(super) fn new(disk: BlockingPool, file: Arc<File>, first: u64, end: u64) -> FileRange {
        FileRange { file, disk, first, end }
    }

    /// A range that is read on the runtime of a test.
    #[cfg(test)]
    pub(crate) fn read_by(runtime: &tokio::runtime::Handle, file: Arc<File>, first: u64, end: u64) -> FileRange {
        FileRange::new(BlockingPool::new(runtime.clone(), 4), file, first, end)
    }

    /// The file. Read it by position: other requests share the descriptor.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.end - self.first
    }

    /// Has the kernel read these bytes from the disk, on a thread that may wait for it. Nothing is
    /// copied: they are sent to `/dev/null`, so that the kernel reads ahead in its usual way.
    /// (`readahead(2)` and `POSIX_FADV_WILLNEED` fill the page cache with small pages, which makes
    /// every later sending of the file dearer.)
    pub fn warm(&self, first: u64, end: u64) -> impl Future<Output = io::Result<()>> + use<> {
        let (disk, file) = (self.disk.clone(), Arc::clone(&self.file));
        async move { disk.run(move || forget(&file, first, end)).await.map_err(io::Error::other)? }
    }

    /// The bytes themselves, read on a thread that may wait for the disk. Fewer than `most` only at
    /// the file's end.
    pub fn read(&self, first: u64, most: usize) -> impl Future<Output = io::Result<Bytes>> + use<> {
        let (disk, file) = (self.disk.clone(), Arc::clone(&self.file));
        async move {
            let read = move || {
                let mut buffer = vec![0; most];
                let read = read_at(&file, &mut buffer, first)?;
                buffer.truncate(read);
                Ok(Bytes::from(buffer))
            };
            disk.run(read).await.map_err(io::Error::other)?
        }
    }
}

fn forget(file: &File, first: u64, end: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let nowhere = File::options().write(true).open("/dev/null")?;
        let mut at = first;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX);
            if rustix::fs::sendfile(&nowhere, file, Some(&mut at), most)? == 0 {
                break;
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, first, end);
    Ok(())
}

fn read_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> io::Result<usize> {
    let wanted = buffer.len();
    while !buffer.is_empty() {
        match file.read_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(0) => break,
            Ok(read) => {
                buffer = &mut buffer[read..];
                at += read as u64;
            }
        }
    }
    Ok(wanted - buffer.len())
}
