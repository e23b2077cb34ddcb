/** Pieces of SQL that the statements of all tables share; the same in MySQL and MariaDB. */

/**
 * The database's clock, in epoch milliseconds. Made from UTC_TIMESTAMP, because `UNIX_TIMESTAMP(NOW())` counts an hour
 * twice when summer time ends.
 */
export const nowMs = "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(3)) DIV 1000)";

/** As many question marks as there are values. */
export const marks = (count: number): string => Array(count).fill("?").join(",");

/** By the primary key: with IN a small table would be read in full, and what others have locked in it be waited for. */
export const removeByKeyStatement = (table: string, key: string, count: number): string => {
  const gone = Array(count).fill(`SELECT ? AS ${key}`).join(" UNION ALL ");
  return `DELETE ${table} FROM (${gone}) AS gone STRAIGHT_JOIN ${table} FORCE INDEX (PRIMARY) ON ${table}.${key} = gone.${key}`;
};
