with source as (
    select * from {{ source('raw', 'products') }}
),

conventions as (
    select * from {{ source('ops', 'source_conventions') }}
),

trimmed as (
    select
        upper({{ clean_id('source.product_id') }}) as product_id,
        {{ clean_text('source.product_name') }} as product_name,
        {{ clean_text('source.category') }} as category,
        {{ clean_text('source.subcategory') }} as subcategory,
        {{ clean_text('source.brand') }} as brand,
        nullif(trim(source.list_price), '') as list_price_text,
        coalesce(upper({{ clean_text('source.currency') }}), upper(conventions.default_currency)) as currency_text,
        {{ text_to_boolean('source.is_active') }} as is_active,
        {{ clean_text('source.effective_at') }} as effective_at_text,
        conventions.timezone,
        conventions.source_system is not null as has_conventions,
        source._source_system,
        source._source_file,
        source._source_hash,
        source._source_row,
        source._batch_id,
        source._ingested_at
    from source
    left join conventions on source._source_system = conventions.source_system
),

parsed as (
    select
        *,
        {{ clock_time('effective_at_text') }} as effective_at_reading,
        try_to_decimal(list_price_text, 18, 4) as list_price
    from trimmed
),

renamed as (
    select
        -- identifiers
        product_id,

        -- text
        product_name,
        category,
        subcategory,
        brand,
        iff(list_price is not null, currency_text, null) as list_price_currency,

        -- numbers
        list_price,

        -- booleans
        is_active,

        -- times; a feed that does not say from when a version holds states it from the beginning
        coalesce(
            {{ text_to_utc('effective_at_text', 'effective_at_reading', 'timezone') }}, {{ beginning_of_time() }}
        ) as effective_at,

        -- why the row is refused: every reason, NULL when there is none
        nullif(
            regexp_replace(
                iff(
                    has_conventions,
                    '',
                    'source ' || _source_system || ' has no row in OPS.SOURCE_CONVENTIONS; '
                )
                || iff(product_id is null, 'product_id is empty; ', '')
                || {{ number_reason('list_price_text', 'list_price', false) }}
                || iff(
                    list_price is not null and not coalesce(regexp_like(currency_text, '^[A-Z]{3}$'), false),
                    'currency ''' || coalesce(currency_text, '') || ''' is not a three-letter code; ',
                    ''
                )
                || iff(
                    effective_at_text is not null and effective_at_reading is null,
                    'effective_at ''' || effective_at_text
                    || ''' is not a time as YYYY-MM-DD HH:MM[:SS], with or without offset; ',
                    ''
                ),
                '; $',
                ''
            ),
            ''
        ) as reject_reason,

        -- lineage
        _source_system,
        _source_file,
        _source_hash,
        _source_row,
        _batch_id,
        _ingested_at
    from parsed
)

select
    *,
    {{ attributes_hash([
        'product_name', 'category', 'subcategory', 'brand', 'list_price', 'list_price_currency', 'is_active',
    ]) }} as attributes_hash
from renamed
