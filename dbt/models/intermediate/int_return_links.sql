{{
    config(
        materialized='replace_touched',
        meta={
            'keys': ['source_system', 'return_order_id'],
            'touched': 'int_touched_returns',
            'is_working': true,
        },
    )
}}

with touched as (
    select
        source_system,
        return_order_id
    from {{ ref('int_touched_returns') }}
),

lines as (
    select
        source_system,
        order_id,
        order_line_key,
        line_number,
        customer_id,
        product_id,
        quantity,
        abs(quantity) as units,
        currency,
        ordered_at,
        is_returned,
        is_returned and quantity < 0 as is_return_line,
        returned_order_id,
        returned_line_number
    from {{ ref('int_order_lines') }}
    where reject_reason is null
),

return_lines as (
    select lines.*
    from lines
    inner join touched
        on
            lines.source_system = touched.source_system
            and lines.order_id = touched.return_order_id
    where lines.is_return_line
),

-- Lines of one customer about as many of one product, among them returns that name no order.
match_groups as (
    select distinct
        source_system,
        customer_id,
        product_id,
        units,
        currency
    from return_lines
    where returned_order_id is null and customer_id is not null
),

group_members as (
    select lines.*
    from lines
    inner join match_groups
        on
            lines.source_system = match_groups.source_system
            and lines.customer_id = match_groups.customer_id
            and lines.product_id = match_groups.product_id
            and lines.units = match_groups.units
            and lines.currency = match_groups.currency
    where lines.is_return_line or (not lines.is_returned and lines.quantity > 0)
),

-- What the sources say themselves, of the touched returns and of all others about the lines that may be matched.
orders_to_look_at as (
    select
        source_system,
        returned_order_id as order_id
    from return_lines
    where returned_order_id is not null
    union
    select
        source_system,
        order_id
    from group_members
    where not is_return_line
),

stated as (
    select
        lines.source_system,
        lines.order_id as return_order_id,
        lines.order_line_key as return_line_key,
        sold.order_line_key as sale_line_key
    from lines
    inner join orders_to_look_at
        on
            lines.source_system = orders_to_look_at.source_system
            and lines.returned_order_id = orders_to_look_at.order_id
    inner join lines as sold
        on
            lines.source_system = sold.source_system
            and lines.returned_order_id = sold.order_id
            and not sold.is_returned
            and (
                lines.returned_line_number = sold.line_number
                or (lines.returned_line_number is null and lines.product_id = sold.product_id)
            )
    where lines.is_return_line
    qualify
        row_number() over (
            partition by lines.order_line_key order by iff(sold.units = lines.units, 0, 1) asc, sold.line_number asc
        ) = 1
),

taken as (
    select distinct sale_line_key
    from stated
),

-- A return takes the latest sale before it that no return took yet: sales are laid on a stack, returns take from it.
steps as (
    select
        group_members.*,
        iff(group_members.is_return_line, -1, 1) as step,
        row_number() over (
            partition by
                group_members.source_system, group_members.customer_id, group_members.product_id, group_members.units,
                group_members.currency
            order by
                group_members.ordered_at, iff(group_members.is_return_line, 1, 0), group_members.order_id,
                group_members.line_number
        ) as place
    from group_members
    left join taken on group_members.order_line_key = taken.sale_line_key
    where taken.sale_line_key is null and (not group_members.is_return_line or group_members.returned_order_id is null)
),

balanced as (
    select
        *,
        sum(step) over (
            partition by source_system, customer_id, product_id, units, currency
            order by place rows between unbounded preceding and current row
        ) as balance
    from steps
),

-- A return that finds the stack empty takes the balance to a new low, from where the heights of what follows count.
grounded as (
    select
        *,
        least(
            0,
            min(balance) over (
                partition by source_system, customer_id, product_id, units, currency
                order by place rows between unbounded preceding and current row
            )
        ) as ground,
        coalesce(
            least(
                0,
                min(balance) over (
                    partition by source_system, customer_id, product_id, units, currency
                    order by place rows between unbounded preceding and 1 preceding
                )
            ),
            0
        ) as ground_before
    from balanced
),

levelled as (
    select
        *,
        balance - ground + iff(is_return_line, 1, 0) as level
    from grounded
    where not is_return_line or ground = ground_before
),

paired as (
    select
        order_line_key as return_line_key,
        is_return_line,
        lag(order_line_key) over (
            partition by source_system, customer_id, product_id, units, currency, level order by place
        ) as sale_line_key
    from levelled
),

matched as (
    select
        return_line_key,
        sale_line_key
    from paired
    where is_return_line
)

select
    return_lines.source_system,
    return_lines.order_id as return_order_id,
    return_lines.order_line_key as return_line_key,
    return_lines.units as returned_quantity,
    coalesce(stated.sale_line_key, matched.sale_line_key) as sale_line_key,
    case
        when stated.sale_line_key is not null then 'stated'
        when return_lines.returned_order_id is not null then 'awaited'
        when matched.sale_line_key is not null then 'matched'
        else 'none'
    end as return_match
from return_lines
left join stated on return_lines.order_line_key = stated.return_line_key
left join matched on return_lines.order_line_key = matched.return_line_key
