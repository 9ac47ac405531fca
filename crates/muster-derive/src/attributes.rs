//! The `#[record(...)]` attributes.

use syn::{Attribute, LitStr};

/// Value of the one setting that `#[record(...)]` may have at this place.
pub(crate) fn record_setting(
    attributes: &[Attribute],
    setting: &str,
) -> syn::Result<Option<LitStr>> {
    let mut value: Option<LitStr> = None;
    for attribute in attributes {
        if !attribute.path().is_ident("record") {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident(setting) {
                return Err(meta.error(format!("expected `{setting} = \"...\"` here")));
            }
            let literal: LitStr = meta.value()?.parse()?;
            if literal.value().is_empty() {
                return Err(syn::Error::new(
                    literal.span(),
                    "the name must not be empty",
                ));
            }
            if value.is_some() {
                return Err(meta.error(format!("`{setting}` is given twice")));
            }
            value = Some(literal);
            Ok(())
        })?;
    }
    Ok(value)
}
