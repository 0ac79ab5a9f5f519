-- Business marts about sales and products. As in 060: keys for readers and query planning. Amounts follow one rule: a line
-- that takes back what another one sold (a reversal) is all return; one cancelled or returned in place was sold and came
-- back. So gross - discount - returned = net in every row, and sums of net are those of FACT_ORDERS.

create table if not exists marts.sales_trends (
    order_date date not null comment 'Business date in the shop''s timezone',
    country varchar not null comment 'Country of delivery; Unknown where the line names none',
    category varchar not null comment 'Category when the order was placed; Uncategorized, or No merchandise for postage, fees and the like',
    currency varchar(3) not null comment 'ISO 4217 code of the orders',
    gross_amount number(18, 4) not null comment 'quantity x unit_price of all lines but those that take back what another one sold',
    discount_amount number(18, 4) not null comment 'Discounts of the same lines, with their shares of discounts on orders',
    returned_amount number(18, 4) not null comment 'What came back, positive: on the day it came back, or, cancelled or returned in place, on the day of the order',
    net_amount number(18, 4) not null comment 'gross_amount - discount_amount - returned_amount',
    reporting_currency varchar(3) not null comment 'ISO 4217 code of the shop''s own currency',
    reporting_gross_amount number(18, 4) comment 'gross_amount in reporting_currency, of the lines with an exchange rate; NULL where none has one',
    reporting_discount_amount number(18, 4) comment 'discount_amount likewise',
    reporting_returned_amount number(18, 4) comment 'returned_amount likewise',
    reporting_net_amount number(18, 4) comment 'net_amount likewise',
    lines_without_exchange_rate number(38, 0) not null comment 'Order lines that the reporting amounts lack',
    order_count number(38, 0) not null comment 'Orders with a line that is no return; one with lines of several categories counts in each',
    units_sold number(18, 4) not null comment 'Units of the lines of gross_amount',
    units_returned number(18, 4) not null comment 'Units that came back, positive',
    average_basket number(18, 4) comment 'Net amount of lines that are no returns, per order; NULL without orders',
    net_amount_average_7_days number(18, 4) not null comment 'Net amount of this day and the 6 before / 7: days without a row count as 0, also those before the first',
    net_amount_average_28_days number(18, 4) not null comment 'Net amount of this day and the 27 before / 28, likewise',
    net_amount_year_before number(18, 4) comment 'Net amount of the same weekday a year before, 364 days; NULL where that day has no row',
    net_amount_average_28_days_year_before number(18, 4) comment 'The 28-day average of that day; NULL where none of its days has a row',
    net_amount_average_28_days_change number(18, 4) comment 'The 28-day average against it: 0.1 is a tenth more; NULL where that was not above 0',
    constraint sales_trends_pk primary key (order_date, country, category, currency)
)
cluster by (order_date)
comment = 'Grain: one row per business date, country, category and currency with order lines';

create table if not exists marts.product_performance (
    source_system varchar not null comment 'Source the product is from',
    product_id varchar not null comment 'Stock code',
    product_name varchar comment 'Present name',
    category varchar comment 'Present category',
    is_merchandise boolean not null comment 'False for codes that are no products',
    currency varchar(3) not null comment 'ISO 4217 code of the orders; XXX for a product that was viewed and never ordered',
    is_main_currency boolean not null comment 'The product''s currency with the most orders, the first by its code of several: each product has one such row',
    gross_amount number(18, 4) not null comment 'quantity x unit_price of all lines but those that take back what another one sold',
    discount_amount number(18, 4) not null comment 'Discounts of the same lines, with their shares of discounts on orders',
    returned_amount number(18, 4) not null comment 'What came back, positive',
    net_amount number(18, 4) not null comment 'gross_amount - discount_amount - returned_amount',
    reporting_currency varchar(3) not null comment 'ISO 4217 code of the shop''s own currency',
    reporting_gross_amount number(18, 4) comment 'gross_amount in reporting_currency, of the lines with an exchange rate; NULL where none has one',
    reporting_discount_amount number(18, 4) comment 'discount_amount likewise',
    reporting_returned_amount number(18, 4) comment 'returned_amount likewise',
    reporting_net_amount number(18, 4) comment 'net_amount likewise',
    lines_without_exchange_rate number(38, 0) not null comment 'Order lines that the reporting amounts lack',
    units_sold number(18, 4) not null comment 'Units of the lines of gross_amount',
    units_returned number(18, 4) not null comment 'Units that came back, positive',
    order_count number(38, 0) not null comment 'Orders with a line of the product that is no return',
    customer_count number(38, 0) not null comment 'Persons with such an order, after merges; guests are not counted',
    return_rate number(18, 4) comment 'units_returned / units_sold; NULL where none was sold',
    price_realisation number(18, 4) comment 'Net amount of units sold and not returned in place over what they cost by the list price of that time, both of lines with a list price in this currency; NULL without any',
    first_sold_at timestamp_ntz comment 'First order, UTC; returns do not count',
    last_sold_at timestamp_ntz comment 'Last order, UTC; returns do not count',
    product_views number(38, 0) comment 'Events product_view of people; on the row of the main currency only, elsewhere NULL',
    sessions_with_view number(38, 0) comment 'Sessions of people with such a view; likewise',
    sessions_with_view_and_purchase number(38, 0) comment 'Of these, with a purchase that names an order with the product; likewise',
    view_to_buy_rate number(18, 4) comment 'sessions_with_view_and_purchase / sessions_with_view; NULL without views',
    constraint product_performance_pk primary key (source_system, product_id, currency)
)
comment = 'Grain: one row per product and currency it was ordered in; products viewed and never ordered have one row';

create table if not exists marts.market_basket (
    source_system varchar not null comment 'Source the products are from',
    product_id_a varchar not null comment 'Stock code of the first product, by code',
    product_id_b varchar not null comment 'Stock code of the second product',
    product_name_a varchar comment 'Present name of the first',
    product_name_b varchar comment 'Present name of the second',
    pair_rank number(38, 0) not null comment '1 for the pair of the source with the most orders; of equals the higher lift, then the codes',
    window_start_date date not null comment 'First business date of the orders looked at',
    window_end_date date not null comment 'Last business date of the orders looked at: that of the source''s latest order',
    order_count number(38, 0) not null comment 'Orders looked at: all of the window that have merchandise, but those with too many products',
    oversized_order_count number(38, 0) not null comment 'Orders of the window that were left out because they have too many products',
    orders_with_a number(38, 0) not null comment 'Of order_count, orders with the first product',
    orders_with_b number(38, 0) not null comment 'Of order_count, orders with the second product',
    orders_with_both number(38, 0) not null comment 'Of order_count, orders with both',
    support number(18, 4) not null comment 'orders_with_both / order_count',
    confidence_a_to_b number(18, 4) not null comment 'orders_with_both / orders_with_a: how many of those who buy a buy b as well',
    confidence_b_to_a number(18, 4) not null comment 'orders_with_both / orders_with_b',
    lift number(18, 4) not null comment 'support / (share of orders with a x share of orders with b); above 1: together more often than by chance',
    constraint market_basket_pk primary key (source_system, product_id_a, product_id_b)
)
comment = 'Grain: one row per source and pair of products often bought together in the trailing window';
