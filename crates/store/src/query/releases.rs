//! Releases.

use super::select;
use crate::{ReleaseRow, Store, StoreError};

impl Store {
    /// All releases, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails or a stored evaluation is not what Augur writes.
    pub fn releases(&self) -> Result<Vec<ReleaseRow>, StoreError> {
        let sql = "SELECT release_id, parent, epoch_us(created_at), training_rows, evaluation::VARCHAR \
                   FROM releases ORDER BY created_at DESC, release_id DESC";
        let rows = select(&self.reader()?, "read the releases", sql, [], |columns| {
            let release = ReleaseRow {
                release_id: columns.get()?,
                parent: columns.get()?,
                created_at: columns.moment()?,
                training_rows: columns.get()?,
                evaluation: Vec::new(),
            };
            Ok((release, columns.get::<String>()?))
        })?;
        rows.into_iter()
            .map(|(release, evaluation)| {
                let evaluation = serde_json::from_str(&evaluation)
                    .map_err(|_| StoreError::Unreadable { what: "an evaluation", found: evaluation })?;
                Ok(ReleaseRow { evaluation, ..release })
            })
            .collect()
    }
}
