import { type Static, type TSchema, Type } from "typebox";

/**
 * Schemas with a name, which the API reference lists under it; others refer to them instead of repeating them.
 */
export type Named<S extends TSchema> = S & { readonly $id: string };

export const named = <const S extends TSchema>(id: string, schema: S): Named<S> => Object.assign(schema, { $id: id });

export const ref = <S extends TSchema>(schema: Named<S>) => Type.Unsafe<Static<S>>({ $ref: `${schema.$id}#` });

export const textMap = (description: string, example: Record<string, string>) =>
  Type.Unsafe<Record<string, string>>({
    type: "object",
    additionalProperties: { type: "string" },
    description,
    examples: [example],
  });

/** A route's reply of a named shape. */
export type Reply = { readonly $ref: string; readonly "x-response-description": string };

export const reply = (schema: Named<TSchema>, description: string): Reply => ({
  $ref: `${schema.$id}#`,
  "x-response-description": description,
});
