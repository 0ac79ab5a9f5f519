{{
    config(
        materialized='replace_touched',
        meta={'keys': ['source_system', 'product_id'], 'touched': 'int_products_to_measure'},
    )
}}

-- depends_on: {{ ref('int_files_to_transform') }}
with touched as (
    select
        source_system,
        product_id
    from {{ ref('int_products_to_measure') }}
),

versions as (
    select products.*
    from {{ ref('dim_products') }} as products
    inner join touched
        on
            products.source_system = touched.source_system
            and products.product_id = touched.product_id
),

persons as (
    select
        customer_key,
        person_id
    from {{ ref('dim_customers') }}
),

lines as (
    select
        facts.*,
        versions.product_id,
        {{ is_reversal('facts') }} as is_reversal,
        iff(
            not facts.is_returned and facts.quantity > 0 and versions.list_price_currency = facts.currency,
            versions.list_price,
            null
        ) as list_price
    from {{ ref('fact_orders') }} as facts
    inner join versions on facts.product_key = versions.product_key
    where {{ is_let_in('facts') }}
),

-- Returns are left out of price realisation: they say nothing about prices.
sold as (
    select
        lines.source_system,
        lines.product_id,
        lines.currency,
        {{ money_sums() }},
        sum(iff(lines.is_returned and lines.quantity < 0, 0, lines.quantity)) as units_sold,
        sum(iff(lines.is_returned, abs(lines.quantity), 0)) as units_returned,
        count(distinct iff(lines.is_returned, null, lines.order_id)) as order_count,
        count(distinct iff(lines.is_returned, null, persons.person_id)) as customer_count,
        sum(iff(lines.list_price is null, 0, lines.net_amount)) as net_amount_with_list_price,
        sum(lines.quantity::number(38, 4) * lines.list_price) as list_amount,
        min(iff(lines.is_returned, null, lines.ordered_at)) as first_sold_at,
        max(iff(lines.is_returned, null, lines.ordered_at)) as last_sold_at
    from lines
    left join persons on lines.customer_key = persons.customer_key
    group by lines.source_system, lines.product_id, lines.currency
),

-- Clicks know no currency of an order: what they say of a product stands on one of its rows.
ranked as (
    select
        *,
        row_number() over (partition by source_system, product_id order by order_count desc, currency asc) = 1
            as is_main_currency
    from sold
),

views as (
    select
        clicks.source_system,
        versions.product_id,
        clicks.session_key
    from {{ ref('fact_clicks') }} as clicks
    inner join versions on clicks.product_key = versions.product_key
    where clicks.event_type = 'product_view' and not clicks.is_bot
),

purchases as (
    select distinct
        source_system,
        session_key,
        order_id
    from {{ ref('fact_clicks') }}
    where event_type = 'purchase' and order_id is not null and not is_bot
),

bought as (
    select distinct
        lines.source_system,
        lines.product_id,
        purchases.session_key
    from purchases
    inner join lines
        on
            purchases.source_system = lines.source_system
            and purchases.order_id = lines.order_id
    where not lines.is_returned
),

viewed as (
    select
        views.source_system,
        views.product_id,
        count(*) as product_views,
        count(distinct views.session_key) as sessions_with_view,
        count(distinct bought.session_key) as sessions_with_view_and_purchase
    from views
    left join bought
        on
            views.source_system = bought.source_system
            and views.product_id = bought.product_id
            and views.session_key = bought.session_key
    group by views.source_system, views.product_id
),

measured as (
    select
        coalesce(ranked.source_system, viewed.source_system) as source_system,
        coalesce(ranked.product_id, viewed.product_id) as product_id,
        coalesce(ranked.currency, 'XXX') as currency,
        coalesce(ranked.is_main_currency, true) as is_main_currency,
        coalesce(ranked.gross_amount, 0) as gross_amount,
        coalesce(ranked.discount_amount, 0) as discount_amount,
        coalesce(ranked.returned_amount, 0) as returned_amount,
        coalesce(ranked.net_amount, 0) as net_amount,
        ranked.reporting_gross_amount,
        ranked.reporting_discount_amount,
        ranked.reporting_returned_amount,
        ranked.reporting_net_amount,
        coalesce(ranked.lines_without_exchange_rate, 0) as lines_without_exchange_rate,
        coalesce(ranked.units_sold, 0) as units_sold,
        coalesce(ranked.units_returned, 0) as units_returned,
        coalesce(ranked.order_count, 0) as order_count,
        coalesce(ranked.customer_count, 0) as customer_count,
        ranked.net_amount_with_list_price,
        ranked.list_amount,
        ranked.first_sold_at,
        ranked.last_sold_at,
        iff(coalesce(ranked.is_main_currency, true), coalesce(viewed.product_views, 0), null) as product_views,
        iff(coalesce(ranked.is_main_currency, true), coalesce(viewed.sessions_with_view, 0), null)
            as sessions_with_view,
        iff(coalesce(ranked.is_main_currency, true), coalesce(viewed.sessions_with_view_and_purchase, 0), null)
            as sessions_with_view_and_purchase
    from ranked
    full outer join viewed
        on
            ranked.source_system = viewed.source_system
            and ranked.product_id = viewed.product_id
)

select
    measured.source_system::varchar as source_system,
    measured.product_id::varchar as product_id,
    versions.product_name::varchar as product_name,
    versions.category::varchar as category,
    versions.is_merchandise::boolean as is_merchandise,
    measured.currency::varchar(3) as currency,
    measured.is_main_currency::boolean as is_main_currency,
    measured.gross_amount::number(18, 4) as gross_amount,
    measured.discount_amount::number(18, 4) as discount_amount,
    measured.returned_amount::number(18, 4) as returned_amount,
    measured.net_amount::number(18, 4) as net_amount,
    '{{ var("reporting_currency") }}'::varchar(3) as reporting_currency,
    measured.reporting_gross_amount::number(18, 4) as reporting_gross_amount,
    measured.reporting_discount_amount::number(18, 4) as reporting_discount_amount,
    measured.reporting_returned_amount::number(18, 4) as reporting_returned_amount,
    measured.reporting_net_amount::number(18, 4) as reporting_net_amount,
    measured.lines_without_exchange_rate::number(38, 0) as lines_without_exchange_rate,
    measured.units_sold::number(18, 4) as units_sold,
    measured.units_returned::number(18, 4) as units_returned,
    measured.order_count::number(38, 0) as order_count,
    measured.customer_count::number(38, 0) as customer_count,
    round(measured.units_returned / iff(measured.units_sold > 0, measured.units_sold, null), 4)::number(18, 4)
        as return_rate,
    round(measured.net_amount_with_list_price / nullif(measured.list_amount, 0), 4)::number(18, 4)
        as price_realisation,
    measured.first_sold_at::timestamp_ntz as first_sold_at,
    measured.last_sold_at::timestamp_ntz as last_sold_at,
    measured.product_views::number(38, 0) as product_views,
    measured.sessions_with_view::number(38, 0) as sessions_with_view,
    measured.sessions_with_view_and_purchase::number(38, 0) as sessions_with_view_and_purchase,
    round(measured.sessions_with_view_and_purchase / nullif(measured.sessions_with_view, 0), 4)::number(18, 4)
        as view_to_buy_rate
from measured
inner join versions
    on
        measured.source_system = versions.source_system
        and measured.product_id = versions.product_id
        and versions.is_current
