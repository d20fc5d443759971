//! Asking a device a second time: for what it failed to give, and for what it may have given wrong.
//!
//! A device may recover a sector, and a read may go astray on its way although what is stored is
//! sound. So nothing that an opening decides, and that would lose what is stored if it were wrong,
//! rests on a single read. What a second read says is believed: it is what is there.

use lightning_io::{File, IoBuf, IoError, IoErrorKind, IoOp};

/// Reads exactly `len` bytes; a failed read is made once more, and `again` told of it.
///
/// # Errors
/// That of the second read.
pub(crate) async fn read_retrying<F: File>(
    file: &F,
    offset: u64,
    len: usize,
    again: impl FnOnce(),
) -> Result<IoBuf, IoError> {
    let bytes = match file.read_at(offset, len).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(%error, "a read failed and is made again");
            again();
            file.read_at(offset, len).await?
        }
    };
    if bytes.len() == len {
        return Ok(bytes);
    }
    let kind = IoErrorKind::ShortRead {
        expected: len,
        found: bytes.len(),
    };
    Err(IoError::at(IoOp::Read, file.path(), offset, len, kind))
}

/// Reads `len` bytes and judges them; a verdict that is not good is asked of a second read, whose
/// verdict counts.
///
/// # Errors
/// When the bytes could not be read twice in a row.
pub(crate) async fn read_judged<F: File, V>(
    file: &F,
    (offset, len): (u64, usize),
    judge: impl Fn(&[u8]) -> V,
    is_good: impl Fn(&V) -> bool,
) -> Result<V, IoError> {
    let first = judge(&read_retrying(file, offset, len, || ()).await?);
    if is_good(&first) {
        return Ok(first);
    }
    let second = judge(&read_retrying(file, offset, len, || ()).await?);
    if is_good(&second) {
        let file = file.path().display();
        tracing::warn!(%file, offset, "a block was misread and is sound at the second read");
    }
    Ok(second)
}
