//! Expansion of `#[derive(Record)]`.

use std::collections::HashSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, FieldsNamed, Generics, Ident, Lifetime, Type};

use crate::attributes::record_setting;

/// Implementations for the struct.
pub(crate) fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    let fields = named_fields(input)?;
    let lifetime = lifetime(&input.generics)?;
    let ident = &input.ident;
    let name = record_setting(&input.attrs, "name")?
        .map_or_else(|| ident.unraw().to_string(), |literal| literal.value());

    let mut idents = Vec::new();
    let mut types = Vec::new();
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for field in &fields.named {
        let field_ident = field.ident.as_ref().expect("named fields have names");
        let name = record_setting(&field.attrs, "rename")?.map_or_else(
            || field_ident.unraw().to_string(),
            |literal| literal.value(),
        );
        if !seen.insert(name.clone()) {
            return Err(Error::new(
                field.span(),
                format!("two fields are named `{name}`"),
            ));
        }
        refuse_recursion(&field.ty, ident)?;
        idents.push(field_ident);
        types.push(&field.ty);
        names.push(name);
    }
    let count = idents.len();

    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    // A struct that borrows reads from values of its own lifetime, any other from all values.
    let (decode_lifetime, decode_generics) = match &lifetime {
        Some(lifetime) => (quote!(#lifetime), quote!(#impl_generics)),
        None => (quote!('muster_value), quote!(<'muster_value>)),
    };

    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::muster_data::Record for #ident #type_generics #where_clause {
            const NAME: &'static str = #name;
            const FIELDS: &'static [&'static str] = &[#(#names),*];
        }

        #[automatically_derived]
        impl #impl_generics ::muster_data::Encode for #ident #type_generics #where_clause {
            fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                ::muster_data::encode::vector_header(out, #count);
                #(::muster_data::Encode::encode(&self.#idents, out);)*
            }
        }

        #[automatically_derived]
        impl #decode_generics ::muster_data::Decode<#decode_lifetime>
            for #ident #type_generics #where_clause
        {
            fn decode(
                value: ::muster_data::DataRef<#decode_lifetime>,
            ) -> ::std::result::Result<Self, ::muster_data::ConvertError> {
                #[allow(unused_mut, unused_variables)]
                let mut fields = ::muster_data::FieldReader::new(value, #name)?;
                ::std::result::Result::Ok(Self {
                    #(#idents: fields.next::<#types>(#names)?,)*
                })
            }
        }

        #[automatically_derived]
        impl #impl_generics ::muster_data::Typed for #ident #type_generics #where_clause {
            fn data_type() -> ::muster_data::Type {
                static TYPE: ::std::sync::OnceLock<::muster_data::Type> =
                    ::std::sync::OnceLock::new();
                TYPE.get_or_init(|| {
                    ::muster_data::Type::record::<&'static str>(
                        #name,
                        [#((#names, <#types as ::muster_data::Typed>::data_type())),*],
                    )
                })
                .clone()
            }
        }
    })
}

fn named_fields(input: &DeriveInput) -> syn::Result<&FieldsNamed> {
    let problem = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => return Ok(fields),
            Fields::Unnamed(_) => "a tuple struct has no field names",
            Fields::Unit => "a struct without fields is written `struct Name {}`",
        },
        Data::Enum(_) => "an enum is not a record",
        Data::Union(_) => "a union is not a record",
    };
    let message = format!("Record can be derived for structs with named fields; {problem}");
    Err(Error::new(input.ident.span(), message))
}

/// The lifetime parameter, if there is one; nothing else is supported.
fn lifetime(generics: &Generics) -> syn::Result<Option<Lifetime>> {
    if let Some(parameter) = generics.type_params().next() {
        return Err(Error::new(
            parameter.span(),
            "a record cannot have type parameters",
        ));
    }
    if let Some(parameter) = generics.const_params().next() {
        return Err(Error::new(
            parameter.span(),
            "a record cannot have constant parameters",
        ));
    }
    let mut lifetimes = generics.lifetimes();
    let first = lifetimes.next();
    if let Some(parameter) = lifetimes.next() {
        let message = "a record can have one lifetime, that of the value it borrows from";
        return Err(Error::new(parameter.span(), message));
    }
    Ok(first.map(|parameter| parameter.lifetime.clone()))
}

/// A record inside itself, even in a vector, has no finite type, and computing it would never end.
fn refuse_recursion(ty: &Type, record: &Ident) -> syn::Result<()> {
    match find_ident(ty.to_token_stream(), record) {
        Some(ident) => Err(Error::new(ident.span(), "a record cannot contain itself")),
        None => Ok(()),
    }
}

fn find_ident(tokens: TokenStream, record: &Ident) -> Option<Ident> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == *record || ident == "Self" => Some(ident),
        TokenTree::Group(group) => find_ident(group.stream(), record),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn refusal(input: &DeriveInput) -> String {
        expand(input)
            .expect_err("the input is no record")
            .to_string()
    }

    #[test]
    fn only_structs_with_named_fields() {
        let prefix = "Record can be derived for structs with named fields; ";
        let cases: [(DeriveInput, &str); 4] = [
            (
                parse_quote!(
                    enum Choice {
                        A,
                        B,
                    }
                ),
                "an enum is not a record",
            ),
            (
                parse_quote!(
                    struct Pair(u64, u64);
                ),
                "a tuple struct has no field names",
            ),
            (
                parse_quote!(
                    struct Nothing;
                ),
                "a struct without fields is written `struct Name {}`",
            ),
            (
                parse_quote!(union Bits { a: u64, b: f64 }),
                "a union is not a record",
            ),
        ];
        for (input, problem) in cases {
            assert_eq!(refusal(&input), format!("{prefix}{problem}"));
        }
    }

    #[test]
    fn parameters() {
        let types: DeriveInput = parse_quote!(
            struct Any<T> {
                value: T,
            }
        );
        assert_eq!(refusal(&types), "a record cannot have type parameters");
        let constants: DeriveInput = parse_quote!(
            struct Many<const N: usize> {
                values: [u64; N],
            }
        );
        assert_eq!(
            refusal(&constants),
            "a record cannot have constant parameters"
        );
        let lifetimes: DeriveInput = parse_quote!(
            struct Two<'a, 'b> {
                a: &'a str,
                b: &'b str,
            }
        );
        assert!(refusal(&lifetimes).starts_with("a record can have one lifetime"));
        let one: DeriveInput = parse_quote!(
            struct One<'a> {
                a: &'a str,
                b: &'a str,
            }
        );
        assert!(expand(&one).is_ok());
    }

    #[test]
    fn attributes() {
        let unknown: DeriveInput = parse_quote!(
            #[record(title = "A")]
            struct A {}
        );
        assert_eq!(refusal(&unknown), "expected `name = \"...\"` here");
        let misplaced: DeriveInput = parse_quote!(
            struct A {
                #[record(name = "b")]
                a: u64,
            }
        );
        assert_eq!(refusal(&misplaced), "expected `rename = \"...\"` here");
        let twice: DeriveInput = parse_quote!(
            #[record(name = "A", name = "B")]
            struct A {}
        );
        assert_eq!(refusal(&twice), "`name` is given twice");
        let empty: DeriveInput = parse_quote!(
            #[record(name = "")]
            struct A {}
        );
        assert_eq!(refusal(&empty), "the name must not be empty");
        let same: DeriveInput = parse_quote!(
            struct A {
                a: u64,
                #[record(rename = "a")]
                b: u64,
            }
        );
        assert_eq!(refusal(&same), "two fields are named `a`");
    }

    #[test]
    fn a_record_inside_itself() {
        let tree: DeriveInput = parse_quote!(
            struct Tree {
                children: Vec<Tree>,
            }
        );
        assert_eq!(refusal(&tree), "a record cannot contain itself");
        let chain: DeriveInput = parse_quote!(
            struct Chain {
                next: Option<Box<Self>>,
            }
        );
        assert_eq!(refusal(&chain), "a record cannot contain itself");
    }
}
