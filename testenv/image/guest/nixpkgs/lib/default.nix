# The few functions of nixpkgs' lib that a simple configuration uses.
let
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
in
rec {
  inherit mkOverride;
  mkOptionDefault = mkOverride 1500;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkVMOverride = mkOverride 10;
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkBefore = content: content;
  mkAfter = content: content;

  inherit (builtins) attrNames attrValues concatMap concatStringsSep elem filter head isAttrs
    isBool isFunction isInt isList isString length listToAttrs mapAttrs readFile sort tail toJSON;
  id = x: x;
  optional = c: x: if c then [ x ] else [ ];
  optionals = c: xs: if c then xs else [ ];
  optionalString = c: s: if c then s else "";
  optionalAttrs = c: a: if c then a else { };
  nameValuePair = name: value: { inherit name value; };
  mapAttrsToList = f: a: map (n: f n a.${n}) (attrNames a);
  genAttrs = names: f: listToAttrs (map (n: nameValuePair n (f n)) names);
  hasPrefix = p: s: builtins.substring 0 (builtins.stringLength p) s == p;
  removePrefix = p: s:
    if hasPrefix p s then builtins.substring (builtins.stringLength p) (builtins.stringLength s) s else s;
  splitString = sep: s: filter isString (builtins.split (escapeRegex sep) s);
  escapeRegex = s: builtins.replaceStrings [ "." "*" "+" "?" "(" ")" "[" "]" "{" "}" "|" "^" "$" "\\" ]
    [ "\\." "\\*" "\\+" "\\?" "\\(" "\\)" "\\[" "\\]" "\\{" "\\}" "\\|" "\\^" "\\$" "\\\\" ] s;
  trim = s: let m = builtins.match "[[:space:]]*(.*[^[:space:]])[[:space:]]*" s; in if m == null then "" else head m;
}
