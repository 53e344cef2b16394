package transform

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmespath-community/go-jmespath/pkg/functions"
	"github.com/jmespath-community/go-jmespath/pkg/parsing"

	"github.com/pg-tide/pg-tide/internal/config"
)

// place says what a name stands for: at the top one of the expression's
// variables, inside a value one of its fields.
type place bool

const (
	top    place = true
	inside place = false
)

// checker finds what JMESPath only finds when it is too late: a misspelt name
// is null there, so that a filter silently drops every event, and an unknown
// function fails on every event.
type checker struct {
	functions map[string]functions.FunctionEntry
	bound     map[string]bool
}

func (c *checker) check(node parsing.ASTNode, at place) error {
	switch node.NodeType {
	case parsing.ASTField:
		return checkName(node, at)
	case parsing.ASTVariable:
		name, _ := node.Value.(string)
		if !c.bound[name] {
			return fmt.Errorf("it uses %s, which no let expression binds", name)
		}
		return nil
	case parsing.ASTBinding:
		return errors.New("it is not JMESPath: it compares with one = (write ==)")
	case parsing.ASTLetExpression:
		return c.checkLet(node, at)
	case parsing.ASTFunctionExpression:
		if err := c.checkCall(node); err != nil {
			return err
		}
	case parsing.ASTSubexpression, parsing.ASTIndexExpression, parsing.ASTPipe, parsing.ASTProjection,
		parsing.ASTValueProjection, parsing.ASTFilterProjection, parsing.ASTExpRef:
		return c.checkSteps(node, at)
	}
	for _, child := range node.Children {
		if err := c.check(child, at); err != nil {
			return err
		}
	}
	return nil
}

// checkSteps checks what goes into values: the first child stands where the
// node stands, the others see what it yields.
func (c *checker) checkSteps(node parsing.ASTNode, at place) error {
	next := inside
	for i, child := range node.Children {
		where := next
		if i == 0 && node.NodeType != parsing.ASTExpRef {
			where = at
			if child.NodeType == parsing.ASTRootNode || child.NodeType == parsing.ASTCurrentNode && at == top {
				next = top // "$.payload" and "@.payload" are "payload"
			}
		}
		if err := c.check(child, where); err != nil {
			return err
		}
	}
	return nil
}

func checkName(node parsing.ASTNode, at place) error {
	name, _ := node.Value.(string)
	if at == inside || slices.Contains(names(), name) {
		return nil
	}
	hint := "fields of the payload are written payload." + name + ", strings in single quotes"
	if near := config.Nearest(name, names()); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Errorf("it names %q, and an expression sees %s (%s)", name, enumerated(), hint)
}

// enumerated tells the names that an expression sees.
func enumerated() string {
	all := names()
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

func (c *checker) checkCall(node parsing.ASTNode) error {
	name, _ := node.Value.(string)
	function, known := c.functions[name]
	if !known {
		hint := "see the list of functions of JMESPath"
		if near := config.Nearest(name, slices.Collect(maps.Keys(c.functions))); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return fmt.Errorf("it calls %s(), which does not exist (%s)", name, hint)
	}
	least, most := 0, len(function.Arguments)
	for _, argument := range function.Arguments {
		if !argument.Optional {
			least++
		}
		if argument.Variadic {
			most = len(node.Children)
		}
	}
	if n := len(node.Children); n < least || n > most {
		return fmt.Errorf("it calls %s() with the wrong number of arguments: %d", name, n)
	}
	return nil
}

// checkLet checks "let $x = …, $y = … in …": the body sees what is bound, the
// bindings do not see each other.
func (c *checker) checkLet(node parsing.ASTNode, at place) error {
	outer := c.bound
	inner := maps.Clone(outer)
	for _, binding := range node.Children[0].Children {
		if binding.NodeType != parsing.ASTBinding || binding.Children[0].NodeType != parsing.ASTVariable {
			return errors.New("its let expression binds nothing (write let $name = expression in …)")
		}
		if err := c.check(binding.Children[1], at); err != nil {
			return err
		}
		name, _ := binding.Children[0].Value.(string)
		inner[name] = true
	}
	c.bound = inner
	defer func() { c.bound = outer }()
	return c.check(node.Children[1], at)
}
