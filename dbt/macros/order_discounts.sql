{#- Shares of the discounts on whole orders, exact to the minor unit of their currency.
    lines: a CTE of order lines as int_order_lines resolves them, those with a reject_reason among them.
    An order's discount in a currency is what its latest line with one says. It is spread over the lines whose amount has
    the same sign, in proportion to it and in the order of their numbers: each line gets the difference of two rounded
    running shares, so that all shares sum to the discount. Quotients are taken of whole multiples, for engines divide
    differently. A discount finer than the minor unit is spread in ten-thousandths.
    Ends with a CTE `order_discount_shares` (order_line_key, order_discount_amount). -#}
{% macro order_discount_shares(lines) %}
order_discounts as (
    select
        source_system,
        order_key,
        currency,
        stated_order_discount_amount as amount
    from {{ lines }}
    where reject_reason is null and stated_order_discount_amount is not null
    qualify row_number() over (
        partition by source_system, order_key, currency
        order by
            updated_at desc nulls last, file_modified_at desc nulls last, _source_file desc, _source_row desc,
            _source_hash desc
    ) = 1
),

currencies as (
    select
        currency_code,
        minor_units
    from {{ ref('currencies') }}
),

discounts_in_units as (
    select
        order_discounts.*,
        case currencies.minor_units when 0 then 1 when 2 then 100 when 3 then 1000 else 10000 end as currency_units,
        iff(mod(abs(order_discounts.amount) * currency_units, 1) = 0, currency_units, 10000) as units,
        (abs(order_discounts.amount) * units)::number(38, 4) as discount
    from order_discounts
    left join currencies on order_discounts.currency = currencies.currency_code
    where order_discounts.amount <> 0
),

weighted as (
    select
        {{ lines }}.order_line_key,
        {{ lines }}.source_system,
        {{ lines }}.order_key,
        {{ lines }}.currency,
        {{ lines }}.line_number,
        discounts.amount,
        discounts.units,
        discounts.discount,
        greatest(sign(discounts.amount) * ({{ lines }}.gross_amount - {{ lines }}.line_discount_amount), 0)::number(18, 4)
            as weight
    from {{ lines }}
    inner join discounts_in_units as discounts
        on
            {{ lines }}.source_system = discounts.source_system
            and {{ lines }}.order_key = discounts.order_key
            and {{ lines }}.currency = discounts.currency
    where {{ lines }}.reject_reason is null
),

running as (
    select
        *,
        sum(weight) over (partition by source_system, order_key, currency)::number(18, 4) as whole,
        sum(weight) over (
            partition by source_system, order_key, currency
            order by line_number rows between unbounded preceding and current row
        )::number(18, 4) as upto,
        row_number() over (partition by source_system, order_key, currency order by line_number) as place
    from weighted
),

multiples as (
    select
        *,
        2 * discount * upto + whole as upto_twice,
        2 * discount * (upto - weight)::number(18, 4) + whole as before_twice
    from running
),

order_discount_shares as (
    select
        order_line_key,
        (
            sign(amount)
            * iff(
                whole = 0,
                iff(place = 1, discount, 0),
                round((upto_twice - mod(upto_twice, 2 * whole)) / nullif(2 * whole, 0), 0)
                - round((before_twice - mod(before_twice, 2 * whole)) / nullif(2 * whole, 0), 0)
            )
            / units
        )::number(18, 4) as order_discount_amount
    from multiples
)
{% endmacro %}
