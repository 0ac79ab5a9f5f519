-- Row by row, without window functions, so that a filter on _source_hash reaches RAW.
with source as (
    select * from {{ source('raw', 'order_lines') }}
),

conventions as (
    select * from {{ source('ops', 'source_conventions') }}
),

country_names as (
    select * from {{ ref('country_names') }}
),

trimmed as (
    select
        {{ clean_id('source.order_id') }} as order_id,
        {{ clean_text('source.line_number') }} as line_number_text,
        lower({{ clean_text('source.order_status') }}) as order_status_text,
        {{ clean_text('source.ordered_at') }} as ordered_at_text,
        {{ clean_id('source.customer_id') }} as customer_id,
        upper({{ clean_id('source.product_id') }}) as product_id,
        {{ clean_text('source.product_description') }} as product_description,
        nullif(trim(source.quantity), '') as quantity_text,
        nullif(trim(source.unit_price), '') as unit_price_text,
        nullif(trim(source.discount_amount), '') as discount_amount_text,
        nullif(trim(source.order_discount_amount), '') as order_discount_amount_text,
        coalesce(upper({{ clean_text('source.currency') }}), upper(conventions.default_currency)) as currency_text,
        {{ clean_text('source.country') }} as country_text,
        {{ clean_text('source.sales_channel') }} as sales_channel,
        {{ clean_text('source.payment_method') }} as payment_method,
        {{ clean_text('source.promotion_code') }} as promotion_code,
        {{ clean_id('source.returned_order_id') }} as returned_order_id,
        {{ clean_text('source.returned_line_number') }} as returned_line_number_text,
        {{ clean_text('source.updated_at') }} as updated_at_text,
        conventions.timezone,
        upper(conventions.cancellation_prefix) as cancellation_prefix,
        upper(conventions.adjustment_prefix) as adjustment_prefix,
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
        {{ whole_number('line_number_text') }} as line_number,
        {{ whole_number('returned_line_number_text') }} as returned_line_number,
        {{ clock_time('ordered_at_text') }} as ordered_at_reading,
        {{ clock_time('updated_at_text') }} as updated_at_reading,
        try_to_decimal(quantity_text, 18, 4) as quantity,
        try_to_decimal(unit_price_text, 18, 4) as unit_price,
        iff(discount_amount_text is null, 0, try_to_decimal(discount_amount_text, 18, 4)) as discount_amount,
        try_to_decimal(order_discount_amount_text, 18, 4) as order_discount_amount,
        coalesce(startswith(upper(order_id), cancellation_prefix), false) as is_cancellation,
        coalesce(startswith(upper(order_id), adjustment_prefix), false) as is_adjustment
    from trimmed
),

timed as (
    select
        *,
        {{ text_to_utc('ordered_at_text', 'ordered_at_reading', 'timezone') }} as ordered_at,
        {{ text_to_utc('updated_at_text', 'updated_at_reading', 'timezone') }} as updated_at,
        -- 18 x 18 digits need more than 18 to be multiplied in
        round(quantity::number(38, 4) * unit_price, 4) as gross_amount,
        case
            when order_status_text in ('canceled', 'cancel', 'void', 'voided') then 'cancelled'
            when order_status_text in ('return', 'refund', 'refunded') then 'returned'
            when order_status_text in ('adjustment', 'adjust') then 'adjusted'
            when order_status_text in ('new', 'open', 'created', 'pending', 'confirmed', 'processing') then 'placed'
            when order_status_text in ('dispatched', 'in transit', 'sent') then 'shipped'
            when order_status_text in ('complete', 'completed', 'fulfilled', 'received') then 'delivered'
            when order_status_text is not null then order_status_text
            when is_cancellation then 'cancelled'
            when is_adjustment then 'adjusted'
            when quantity < 0 then 'returned'
            else 'placed'
        end as order_status
    from parsed
),

dated as (
    select
        *,
        convert_timezone('UTC', '{{ var("shop_timezone") }}', ordered_at)::date as order_date,
        order_date < '{{ var("calendar_start") }}'::date or order_date > '{{ var("calendar_end") }}'::date
            as is_outside_calendar
    from timed
),

renamed as (
    select
        -- identifiers
        dated.order_id,
        dated.line_number,
        dated.customer_id,
        dated.product_id,
        dated.returned_order_id,
        dated.returned_line_number,

        -- text
        dated.product_description,
        dated.order_status,
        dated.currency_text as currency,
        coalesce(country_names.country_name, dated.country_text) as country,
        country_names.country_code,
        dated.sales_channel,
        dated.payment_method,
        dated.promotion_code,

        -- numbers
        dated.quantity,
        dated.unit_price,
        dated.gross_amount,
        dated.discount_amount,
        dated.order_discount_amount,

        -- booleans
        dated.is_cancellation or dated.order_status in ('cancelled', 'returned') or coalesce(dated.quantity < 0, false)
            as is_returned,

        -- dates and times
        dated.order_date,
        dated.ordered_at,
        dated.updated_at,

        -- why the row is refused: every reason, NULL when there is none
        nullif(
            regexp_replace(
                iff(
                    dated.has_conventions,
                    '',
                    'source ' || dated._source_system || ' has no row in OPS.SOURCE_CONVENTIONS; '
                )
                || iff(dated.order_id is null, 'order_id is empty; ', '')
                || iff(dated.product_id is null, 'product_id is empty; ', '')
                || iff(
                    dated.line_number_text is not null and dated.line_number is null,
                    'line_number ''' || dated.line_number_text || ''' is not a whole number; ',
                    ''
                )
                || {{ number_reason('dated.quantity_text', 'quantity', true) }}
                || {{ number_reason('dated.unit_price_text', 'unit_price', true) }}
                || {{ number_reason('dated.discount_amount_text', 'discount_amount', false) }}
                || {{ number_reason('dated.order_discount_amount_text', 'order_discount_amount', false) }}
                || iff(
                    abs(dated.gross_amount) >= 10000000000000,
                    'quantity x unit_price ' || dated.gross_amount || ' is out of range; ',
                    ''
                )
                || case
                    when dated.ordered_at_text is null then 'ordered_at is empty; '
                    when dated.ordered_at_reading is null
                        then 'ordered_at ''' || dated.ordered_at_text
                            || ''' is not a time as YYYY-MM-DD HH:MM[:SS], with or without offset; '
                    when dated.is_outside_calendar
                        then 'ordered_at ''' || dated.ordered_at_text || ''' is outside the calendar, '
                            || '{{ var("calendar_start") }} to {{ var("calendar_end") }}; '
                    else ''
                end
                || case
                    when dated.currency_text is null then 'currency is empty and the source has no default; '
                    when not regexp_like(dated.currency_text, '^[A-Z]{3}$')
                        then 'currency ''' || dated.currency_text || ''' is not a three-letter code; '
                    else ''
                end,
                '; $',
                ''
            ),
            ''
        ) as reject_reason,

        -- lineage
        dated._source_system,
        dated._source_file,
        dated._source_hash,
        dated._source_row,
        dated._batch_id,
        dated._ingested_at
    from dated
    left join country_names on lower(dated.country_text) = country_names.synonym
)

select * from renamed
